/** Which terminals and logs are open for a task, in this tab of the browser: they survive a reload. Pure but for `load`. */

export interface Tab {
  /** Of an exec its id, of a log `log app NAME` or `log service NAME`. */
  id: string;
  title: string;
  is: 'terminal' | 'app log' | 'service log';
}

export interface Layout {
  tabs: Tab[];
  /** What each pane shows; one or two. */
  panes: (string | undefined)[];
  /** Share of the first of two panes, in percent. */
  split: number;
}

export const empty: Layout = { tabs: [], panes: [undefined], split: 50 };

/** With a tab, shown in this pane. */
export function added(layout: Layout, tab: Tab, pane: number): Layout {
  const tabs = layout.tabs.some((other) => other.id === tab.id) ? layout.tabs : [...layout.tabs, tab];
  return shown({ ...layout, tabs }, tab.id, pane);
}

/** A tab is in one pane at most: what the other one showed moves there in exchange. */
export function shown(layout: Layout, id: string, pane: number): Layout {
  const panes = [...layout.panes];
  const at = Math.min(pane, panes.length - 1);
  const other = panes.indexOf(id);
  if (other !== -1 && other !== at) panes[other] = panes[at];
  panes[at] = id;
  return { ...layout, panes };
}

export function without(layout: Layout, id: string): Layout {
  const at = layout.tabs.findIndex((tab) => tab.id === id);
  const tabs = layout.tabs.filter((tab) => tab.id !== id);
  const free = tabs.filter((tab) => !layout.panes.includes(tab.id));
  const next = free[Math.min(Math.max(0, at - 1), free.length - 1)]?.id;
  let panes = layout.panes.map((shown) => (shown === id ? next : shown));
  // Two panes want two tabs.
  if (panes.length === 2 && tabs.length < 2) panes = [tabs[0]?.id];
  return { ...layout, tabs, panes };
}

export function splitUp(layout: Layout): Layout {
  if (layout.panes.length === 2) return { ...layout, panes: [layout.panes[0]] };
  const free = layout.tabs.find((tab) => tab.id !== layout.panes[0]);
  return { ...layout, panes: [layout.panes[0], free?.id] };
}

/** A name that no other has: `shell`, `shell 2`. */
export function named(layout: Layout, name: string): string {
  const taken = new Set(layout.tabs.map((tab) => tab.title));
  for (let number = 1; ; number += 1) {
    const title = number === 1 ? name : `${name} ${number}`;
    if (!taken.has(title)) return title;
  }
}

function fits(value: unknown): value is Layout {
  const layout = value as Partial<Layout> | null;
  return (
    typeof layout === 'object' &&
    layout !== null &&
    Array.isArray(layout.tabs) &&
    layout.tabs.every((tab) => typeof tab.id === 'string' && typeof tab.title === 'string') &&
    Array.isArray(layout.panes) &&
    (layout.panes.length === 1 || layout.panes.length === 2) &&
    typeof layout.split === 'number'
  );
}

const key = (task: string) => `offshoot.terminals.${task}`;

export function load(task: string): Layout {
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(key(task)) ?? 'null');
    // JSON has no `undefined`.
    return fits(value) ? { ...value, panes: value.panes.map((id) => id ?? undefined) } : empty;
  } catch {
    return empty;
  }
}

export function keep(task: string, layout: Layout): void {
  try {
    sessionStorage.setItem(key(task), JSON.stringify(layout));
  } catch {
    // Full or refused.
  }
}
