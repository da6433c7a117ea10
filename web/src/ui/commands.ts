/**
 * Everything that can be done from here by keyboard, in one list: shortcuts, the command palette and the help are made
 * of it. A page adds its own commands for as long as it is shown.
 *
 * Keys are written `c`, `?`, `mod+k`, `shift+j`, or as a sequence `g b`. Without `mod` they do nothing while one types.
 */
import { useEffect, useEffectEvent, useSyncExternalStore } from 'react';

export interface Command {
  /** What it does: `Stop this task`. */
  title: string;
  /** Where it is listed: `Go to`, `Board`, `This task`. */
  group: string;
  keys?: string;
  /** More keys that do the same. */
  also?: string[];
  run: () => void;
  /** Not in the palette: it is about where one is, as `next row`. */
  keyOnly?: boolean;
}

let layers: readonly (readonly Command[])[] = [];
let flat: readonly Command[] = [];
const listeners = new Set<() => void>();

function set(next: readonly (readonly Command[])[]): void {
  layers = next;
  flat = layers.flat();
  for (const listener of listeners) listener();
}

/** Adds commands while the component is shown. They are told apart by title: handlers may change with each drawing. */
export function useCommands(commands: readonly Command[]): void {
  const shape = JSON.stringify(
    commands.map(({ title, group, keys, also, keyOnly }) => [title, group, keys, also, keyOnly]),
  );
  const run = useEffectEvent((title: string) => commands.find((command) => command.title === title)?.run());
  const make = useEffectEvent(() =>
    commands.map((command) => ({
      ...command,
      run: () => {
        run(command.title);
      },
    })),
  );
  useEffect(() => {
    const layer = make();
    set([...layers, layer]);
    return () => {
      set(layers.filter((other) => other !== layer));
    };
  }, [shape]);
}

export function useAllCommands(): readonly Command[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => flat,
  );
}

/** How a pressed key is written. */
export function written(event: KeyboardEvent): string {
  const key = event.key.toLowerCase();
  const mod = event.ctrlKey || event.metaKey ? 'mod+' : '';
  // `?` and the like are written as they are typed; of letters and named keys Shift is told.
  const shift = event.shiftKey && (key.length > 1 || /[a-z]/.test(key)) ? 'shift+' : '';
  return `${mod}${shift}${key === ' ' ? 'space' : key}`;
}

function types(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable ||
      target.matches('input:not([type=checkbox]):not([type=radio]), textarea, select, [data-keys=own] *'))
  );
}

/** A sequence has to be finished within this time. */
const SEQUENCE_MS = 1200;
let begun = '';
let begunAt = 0;

export function onKeyDown(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing || event.altKey) return;
  const key = written(event);
  if (!key.startsWith('mod+') && types(event.target)) return;
  // A dialog has its own keys; only what opens and closes the palette goes through.
  if (document.querySelector('dialog[open]') && key !== 'mod+k') return;
  // Enter and Space belong to what has the focus.
  if (
    (key === 'enter' || key === 'space') &&
    event.target instanceof HTMLElement &&
    event.target.matches('button, a, summary, [role=menuitem], [role=tab], input')
  )
    return;
  const sequence = Date.now() - begunAt < SEQUENCE_MS ? `${begun} ${key}` : '';
  const has = (keys: string) =>
    flat.findLast((command) => command.keys === keys || command.also?.includes(keys));
  const command = (sequence === '' ? undefined : has(sequence)) ?? has(key);
  begun = '';
  if (command) {
    event.preventDefault();
    command.run();
  } else if (flat.some((other) => other.keys?.startsWith(`${key} `))) {
    begun = key;
    begunAt = Date.now();
  }
}
