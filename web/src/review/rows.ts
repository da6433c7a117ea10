/**
 * A diff as one list of rows, so that only those on the screen are drawn. Pure.
 *
 * What is folded, long or not loaded costs one row, however many lines it has.
 */
import type { Schemas } from '../api';
import { key, lineOf, place, type CommentView, type What } from './anchor';
import { hunks, line as made, marks, pairs, type Hunk, type Line, type Pair } from './patch';

export type FileView = Schemas['FileView'];

/** Longer changes are folded at first: nobody reads a lock file by the way. */
const LONG = 600;

export interface FileEntry {
  file: FileView;
  /** Its sections of the patch, one after the other; empty if nothing is shown of it. */
  text: string;
  print: string;
}

/** What is open and folded, and what was asked for besides. */
export interface Shown {
  split: boolean;
  what: What;
  base: string;
  head: string;
  /** Folded by hand, or opened by hand. */
  folded: ReadonlyMap<string, boolean>;
  viewed: Readonly<Record<string, string>>;
  /** Sections of files that were loaded alone. */
  loaded: ReadonlyMap<string, string>;
  /** Lines of files of which more is shown: by path, then which gaps are open. */
  around: ReadonlyMap<string, { lines: readonly string[]; gaps: ReadonlySet<number> }>;
  comments: readonly CommentView[];
  /** Lines that are being commented on: `path`, then `side:line`. */
  writing: ReadonlyMap<string, ReadonlySet<string>>;
}

export type Row =
  | { is: 'file'; file: FileEntry; open: boolean; viewed: boolean }
  | { is: 'note'; file: FileEntry; text: string; load?: boolean }
  | { is: 'gap'; file: FileEntry; gap: number; hidden: number | undefined; heading: string }
  | { is: 'line'; file: FileEntry; hunk: number; line: Line; mark?: [number, number] }
  | {
      is: 'pair';
      file: FileEntry;
      hunk: number;
      pair: Pair;
      marks?: { left?: [number, number]; right?: [number, number] };
    }
  | { is: 'comment'; file: FileEntry; comment: CommentView; away: boolean }
  | { is: 'writing'; file: FileEntry; at: string }
  | { is: 'end'; file: FileEntry };

const parsed = new WeakMap<FileEntry, { text: string; hunks: Hunk[] }>();

/** Hunks of a file; read once. */
export function hunksOf(file: FileEntry, text: string): Hunk[] {
  const known = parsed.get(file);
  if (known?.text === text) return known.hunks;
  const read = hunks(text);
  parsed.set(file, { text, hunks: read });
  return read;
}

export function isLong({ file }: FileEntry): boolean {
  return (file.added ?? 0) + (file.deleted ?? 0) > LONG;
}

export function isOpen(entry: FileEntry, shown: Pick<Shown, 'folded' | 'viewed'>): boolean {
  const { path } = entry.file;
  return shown.folded.get(path) ?? !(isLong(entry) || shown.viewed[path] === entry.print);
}

const markCache = new WeakMap<Hunk, Map<Line, [number, number]>>();
function marksOf(hunk: Hunk): Map<Line, [number, number]> {
  let found = markCache.get(hunk);
  if (!found) markCache.set(hunk, (found = marks(hunk.lines)));
  return found;
}

const pairCache = new WeakMap<Hunk, Pair[]>();
function pairsOf(hunk: Hunk): Pair[] {
  let found = pairCache.get(hunk);
  if (!found) pairCache.set(hunk, (found = pairs(hunk.lines)));
  return found;
}

const contexts = new WeakMap<readonly string[], Map<number, Line>>();
/** An unchanged line between hunks: the same one each time. */
function contextLine(texts: readonly string[], number: number, shift: number): Line {
  const known = contexts.get(texts) ?? new Map<number, Line>();
  contexts.set(texts, known);
  let found = known.get(number);
  if (!found) {
    found = made({ sign: ' ', text: texts[number - 1] ?? '', old: number - shift, new: number });
    known.set(number, found);
  }
  return found;
}

/** What tells a row from all others, as long as it is shown. */
export function rowKey(row: Row): number | string {
  switch (row.is) {
    case 'line':
      return row.line.id;
    case 'pair':
      return -((row.pair.left ?? row.pair.right)?.id ?? 0);
    case 'gap':
      return `${row.file.file.path}\0gap${row.gap}`;
    case 'comment':
      return `comment${row.comment.comment.number}`;
    case 'writing':
      return `${row.file.file.path}\0writing${row.at}`;
    case 'note':
      return `${row.file.file.path}\0${row.text}`;
    default:
      return `${row.file.file.path}\0${row.is}`;
  }
}

/** The rows, and at which of them each file begins. */
export function rows(
  files: readonly FileEntry[],
  shown: Shown,
): { rows: Row[]; starts: Map<string, number> } {
  const out: Row[] = [];
  const starts = new Map<string, number>();
  for (const entry of files) {
    starts.set(entry.file.path, out.length);
    fileRows(entry, shown, out);
  }
  return { rows: out, starts };
}

function fileRows(entry: FileEntry, shown: Shown, out: Row[]): void {
  const { file } = entry;
  const open = isOpen(entry, shown);
  out.push({ is: 'file', file: entry, open, viewed: shown.viewed[file.path] === entry.print });
  if (!open) return;
  const text = shown.loaded.get(file.path) ?? entry.text;
  const about = modes(file);
  if (about !== undefined) out.push({ is: 'note', file: entry, text: about });
  const found = text === '' ? [] : hunksOf(entry, text);
  const writing = shown.writing.get(file.path);
  const mine = shown.comments.filter(
    (view) => view.path === file.path || (file.old_path != null && view.path === file.old_path),
  );
  const around = shown.around.get(file.path);
  const shownKeys = new Set<string>();
  if (mine.length > 0) {
    for (const hunk of found)
      for (const line of hunk.lines) {
        if (line.new !== undefined) shownKeys.add(key('new', line.new));
        if (line.old !== undefined) shownKeys.add(key('old', line.old));
      }
    if (around) around.lines.forEach((_, index) => shownKeys.add(key('new', index + 1)));
  }
  const placed = place(mine, file, shown.what, shown, shownKeys);
  for (const comment of placed.above) out.push({ is: 'comment', file: entry, comment, away: true });
  if (found.length === 0) {
    const note = nothing(entry);
    if (note) out.push(note);
    out.push({ is: 'end', file: entry });
    return;
  }
  const below = (...keys: string[]) => {
    for (const at of keys) {
      for (const comment of placed.at.get(at) ?? [])
        out.push({ is: 'comment', file: entry, comment, away: false });
      if (writing?.has(at)) out.push({ is: 'writing', file: entry, at });
    }
  };
  const one = (hunk: number, line: Line, mark?: [number, number]) => {
    if (shown.split) out.push({ is: 'pair', file: entry, hunk, pair: { left: line, right: line } });
    else out.push({ is: 'line', file: entry, hunk, line, ...(mark && { mark }) });
    if (placed.at.size > 0 || writing) {
      const at = lineOf(line);
      below(
        key(at.side, at.line),
        ...(line.sign === ' ' && line.old !== undefined ? [key('old', line.old)] : []),
      );
    }
  };
  let next = 1;
  let shift = 0;
  found.forEach((hunk, index) => {
    // A hunk that only deletes names the line before it.
    const start = hunk.newCount === 0 ? hunk.newStart + 1 : hunk.newStart;
    const hidden = start - next;
    if (around?.gaps.has(index)) {
      for (let number = next; number < start; number += 1) {
        one(-1, contextLine(around.lines, number, shift));
      }
    } else if (hidden > 0 || index > 0) {
      out.push({ is: 'gap', file: entry, gap: index, hidden, heading: hunk.heading });
    }
    if (shown.split) {
      const marked = marksOf(hunk);
      for (const pair of pairsOf(hunk)) {
        const left = pair.left && marked.get(pair.left);
        const right = pair.right && marked.get(pair.right);
        out.push({
          is: 'pair',
          file: entry,
          hunk: index,
          pair,
          ...((left ?? right) && { marks: { ...(left && { left }), ...(right && { right }) } }),
        });
        if (placed.at.size > 0 || writing) {
          below(
            ...(pair.left?.old !== undefined ? [key('old', pair.left.old)] : []),
            ...(pair.right?.new !== undefined ? [key('new', pair.right.new)] : []),
          );
        }
      }
    } else {
      const marked = marksOf(hunk);
      for (const line of hunk.lines) one(index, line, marked.get(line));
    }
    next = start + hunk.newCount;
    shift = next - (hunk.oldStart + hunk.oldCount) - (hunk.oldCount === 0 ? 1 : 0);
  });
  if (file.status !== 'A' && file.status !== 'D') {
    const last = around ? around.lines.length : undefined;
    if (around?.gaps.has(found.length)) {
      for (let number = next; number <= around.lines.length; number += 1) {
        one(-1, contextLine(around.lines, number, shift));
      }
    } else if (last === undefined || last >= next) {
      out.push({
        is: 'gap',
        file: entry,
        gap: found.length,
        hidden: last === undefined ? undefined : last - next + 1,
        heading: '',
      });
    }
  }
  out.push({ is: 'end', file: entry });
}

const kinds: Record<string, string> = {
  '100644': 'a file',
  '100755': 'a program',
  '120000': 'a link',
  '160000': 'a submodule',
};

/** What happened to a file besides its lines. */
function modes(file: FileView): string | undefined {
  const said: string[] = [];
  if (file.status === 'R') said.push(`renamed from ${file.old_path ?? '?'}`);
  if (file.status === 'C') said.push(`copied from ${file.old_path ?? '?'}`);
  const { old_mode: before, new_mode: after } = file;
  if (before != null && after != null && before !== after)
    said.push(`was ${kinds[before] ?? before}, is ${kinds[after] ?? after} (${before} → ${after})`);
  else if (after === '100755' && file.status === 'A') said.push('a program: its executable bit is set');
  else if (after === '120000') said.push('a link');
  return said.length > 0 ? said.join('; ') : undefined;
}

function nothing(entry: FileEntry): Row | undefined {
  const { file } = entry;
  if (file.binary === true || file.added == null) {
    return { is: 'note', file: entry, text: 'Binary: it has no lines to show.' };
  }
  if (file.truncated === true) {
    return { is: 'note', file: entry, text: 'Too long to be shown with the rest.', load: true };
  }
  if (file.added + (file.deleted ?? 0) === 0 && file.status === 'A')
    return { is: 'note', file: entry, text: 'An empty file.' };
  if (modes(file) !== undefined) return undefined;
  return { is: 'note', file: entry, text: 'No line of it differs.' };
}
