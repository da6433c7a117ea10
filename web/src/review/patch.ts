/**
 * Reads unified diffs as git writes them. Pure.
 *
 * Every byte of a patch comes from an agent. So names are never taken out of it (the list of files has them), a line
 * is what its first character says and nothing else, and what a hunk's header claims bounds what is read, never what
 * is allocated.
 */

export interface Line {
  /** Tells it from all other lines of this page, whatever they say. */
  id: number;
  /** As git writes it: unchanged, added, deleted. */
  sign: ' ' | '+' | '-';
  text: string;
  /** Number before the change, from 1. */
  old?: number;
  /** Number after it. */
  new?: number;
  /** No line break follows at the end of the file. */
  open?: boolean;
}

let lines = 0;
/** A line with a number of its own. */
export function line(of: Omit<Line, 'id'>): Line {
  lines += 1;
  return { id: lines, ...of };
}

export interface Hunk {
  oldStart: number;
  oldCount: number;
  newStart: number;
  newCount: number;
  /** The function that git found around it. */
  heading: string;
  lines: Line[];
}

/** Where each section of a patch begins and ends: a section is what begins with a line `diff --git `. */
export function sections(patch: string): string[] {
  const mark = 'diff --git ';
  const starts: number[] = [];
  let at = patch.startsWith(mark) ? 0 : patch.indexOf(`\n${mark}`) + 1;
  if (at === 0 && !patch.startsWith(mark)) return [];
  while (at >= 0) {
    starts.push(at);
    const next = patch.indexOf(`\n${mark}`, at);
    at = next === -1 ? -1 : next + 1;
  }
  return starts.map((start, index) => patch.slice(start, starts[index + 1] ?? patch.length));
}

const HEADER = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@ ?(.*)$/s;

/** The hunks of one section. */
export function hunks(section: string): Hunk[] {
  const found: Hunk[] = [];
  const texts = section.split('\n');
  let at = 0;
  while (at < texts.length) {
    const header = HEADER.exec(texts[at] ?? '');
    at += 1;
    if (!header) continue;
    const number = (index: number, or: number) => (header[index] === undefined ? or : Number(header[index]));
    const hunk: Hunk = {
      oldStart: number(1, 0),
      oldCount: number(2, 1),
      newStart: number(3, 0),
      newCount: number(4, 1),
      heading: header[5] ?? '',
      lines: [],
    };
    let before = hunk.oldStart;
    let after = hunk.newStart;
    const oldEnd = before + hunk.oldCount;
    const newEnd = after + hunk.newCount;
    for (; at < texts.length; at += 1) {
      const whole = texts[at] ?? '';
      const text = whole.slice(1);
      if (whole.startsWith('\\')) {
        const last = hunk.lines.at(-1);
        if (last) last.open = true;
      } else if (whole.startsWith('+') && after < newEnd) {
        hunk.lines.push(line({ sign: '+', text, new: after }));
        after += 1;
      } else if (whole.startsWith('-') && before < oldEnd) {
        hunk.lines.push(line({ sign: '-', text, old: before }));
        before += 1;
      } else if (whole.startsWith(' ') && before < oldEnd && after < newEnd) {
        hunk.lines.push(line({ sign: ' ', text, old: before, new: after }));
        before += 1;
        after += 1;
      } else {
        break;
      }
    }
    found.push(hunk);
  }
  return found;
}

export interface Pair {
  left?: Line;
  right?: Line;
}

/** Lines side by side: what was deleted beside what was added in its place. */
export function pairs(lines: readonly Line[]): Pair[] {
  const rows: Pair[] = [];
  let deleted: Line[] = [];
  let added: Line[] = [];
  const flush = () => {
    for (let at = 0; at < Math.max(deleted.length, added.length); at += 1) {
      const left = deleted[at];
      const right = added[at];
      rows.push({ ...(left && { left }), ...(right && { right }) });
    }
    deleted = [];
    added = [];
  };
  for (const line of lines) {
    if (line.sign === '-') {
      if (added.length > 0) flush();
      deleted.push(line);
    } else if (line.sign === '+') {
      added.push(line);
    } else {
      flush();
      rows.push({ left: line, right: line });
    }
  }
  flush();
  return rows;
}

/** The part of each line that differs from the other, as offsets; `undefined` if too little is common to say so. */
export function differing(a: string, b: string): { a: [number, number]; b: [number, number] } | undefined {
  const most = Math.min(a.length, b.length);
  if (most === 0 || most > 2_000) return undefined;
  let head = 0;
  while (head < most && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < most - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const common = a.slice(0, head).trim().length + a.slice(a.length - tail).trim().length;
  if (common < 4 || common * 3 < Math.max(a.length, b.length)) return undefined;
  return { a: [head, a.length - tail], b: [head, b.length - tail] };
}

/** Lines that were changed one for one, with what differs in them. */
export function marks(lines: readonly Line[]): Map<Line, [number, number]> {
  const found = new Map<Line, [number, number]>();
  for (const { left, right } of pairs(lines)) {
    if (left?.sign !== '-' || right?.sign !== '+') continue;
    const parts = differing(left.text, right.text);
    if (!parts) continue;
    found.set(left, parts.a);
    found.set(right, parts.b);
  }
  return found;
}
