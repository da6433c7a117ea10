/** What of a timeline is shown: by kind, by words, folded by turn. Pure. */
import { plain } from '../ui/ansi';
import type { Item, Kind } from './fold';

/** What one can choose to see, in the order of the menu. */
export const filters: { title: string; kinds: readonly Kind[] }[] = [
  { title: 'Messages', kinds: ['message'] },
  { title: 'Thoughts', kinds: ['thought'] },
  { title: 'Tool calls', kinds: ['tool'] },
  { title: 'Approvals', kinds: ['approval'] },
  { title: 'Checks', kinds: ['check'] },
  { title: 'Checkpoints', kinds: ['checkpoint'] },
  { title: 'Environment', kinds: ['environment'] },
  { title: 'Outcomes', kinds: ['result'] },
];

export interface View {
  /** Only these, with the runs that they belong to; `undefined` for all. */
  kinds: ReadonlySet<Kind> | undefined;
  /** Only what has these words. */
  query: string;
  /** Turns that a person opened or folded. */
  open: ReadonlyMap<string, boolean>;
}

/** Whether a turn is open: the newest is, unless somebody said otherwise. */
export function isOpen(turn: string, newest: string | undefined, view: View): boolean {
  return view.open.get(turn) ?? turn === newest;
}

export function newestTurn(items: readonly Item[]): string | undefined {
  return items.findLast((item) => item.is === 'turn')?.turn;
}

export function rows(items: readonly Item[], view: View): Item[] {
  const words = view.query.trim().toLowerCase();
  if (words !== '') {
    return items.filter(
      (item) =>
        (!view.kinds || view.kinds.has(item.kind)) && item.is !== 'turn' && text(item).includes(words),
    );
  }
  const newest = newestTurn(items);
  const shown: Item[] = [];
  // Turns whose beginning is here; of one that began on a page that was not read everything is shown.
  const begun = new Map<string, string | undefined>();
  for (const item of items) {
    if (item.is === 'turn') begun.set(item.turn, item.last);
    if (view.kinds) {
      if (view.kinds.has(item.kind) || item.is === 'run') shown.push(item);
      continue;
    }
    const { turn } = item;
    const folded = turn !== undefined && item.is !== 'turn' && begun.has(turn) && !isOpen(turn, newest, view);
    if (!folded || stays(item, begun.get(turn))) shown.push(item);
  }
  return shown;
}

/** What is shown of a folded turn: its last message, and what waits for a person. */
function stays(item: Item, last: string | undefined): boolean {
  if (item.is === 'approval') return item.settled === undefined;
  return item.is === 'message' && item.key === last;
}

const texts = new WeakMap<Item, string>();

/** All that an item says, to search in. */
export function text(item: Item): string {
  const known = texts.get(item);
  if (known !== undefined) return known;
  const found = plain(parts(item).filter(Boolean).join('\n')).toLowerCase();
  texts.set(item, found);
  return found;
}

function parts(item: Item): (string | undefined | null)[] {
  switch (item.is) {
    case 'run':
      return [`run ${item.number}`, item.prompt, item.model, item.check];
    case 'turn':
      return [item.prompt];
    case 'message':
    case 'thought':
      return [item.text];
    case 'tool':
      return [item.title, item.detail, item.change];
    case 'approval':
      return [item.asked.title, item.asked.detail, item.answer?.text, item.withdrawn];
    case 'check':
      return ['check', item.command, item.output];
    case 'checkpoint':
      return [`checkpoint ${item.number}`, item.title];
    case 'note':
      return [item.title, item.detail];
  }
}
