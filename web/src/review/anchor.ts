/** Where comments are shown in a diff. Pure. */
import type { Schemas } from '../api';
import type { Line } from './patch';

export type CommentView = Schemas['CommentView'];
export type Side = Schemas['Side'];
type FileView = Schemas['FileView'];

/** What is looked at: all of the task, one of its commits, or one checkpoint. */
export type What = { is: 'all' } | { is: 'commit'; commit: string } | { is: 'step'; step: number };

export function key(side: Side, line: number): string {
  return `${side}:${line}`;
}

/** The line that a comment on this line of a diff is about; a deleted line is of before, all others of after. */
export function lineOf(line: Line): { side: Side; line: number } {
  return line.new !== undefined ? { side: 'new', line: line.new } : { side: 'old', line: line.old ?? 0 };
}

export interface Placed {
  /** By `key`, those that stand below a line that is shown. */
  at: Map<string, CommentView[]>;
  /** Those whose line is gone, or is not part of what is shown. */
  above: CommentView[];
}

/** Comments of one file, at the lines where they belong now. */
export function place(
  comments: readonly CommentView[],
  file: FileView,
  what: What,
  ends: { base: string; head: string },
  shown: ReadonlySet<string>,
): Placed {
  const placed: Placed = { at: new Map(), above: [] };
  for (const view of comments) {
    const { comment } = view;
    if (view.path !== file.path && (file.old_path == null || view.path !== file.old_path)) continue;
    let line: number | undefined;
    if (what.is === 'all') line = view.stale ? undefined : (view.line_now ?? undefined);
    // In one commit lines have the numbers of that commit: only what was said there has a place there.
    else if (comment.commit === (comment.side === 'new' ? ends.head : ends.base)) line = comment.line;
    else continue;
    const at = line === undefined ? undefined : key(comment.side, line);
    if (at !== undefined && shown.has(at)) placed.at.set(at, [...(placed.at.get(at) ?? []), view]);
    else placed.above.push(view);
  }
  return placed;
}
