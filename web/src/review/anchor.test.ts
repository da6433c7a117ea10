import { expect, test } from 'vitest';
import { key, lineOf, place, type CommentView } from './anchor';
import type { Schemas } from '../api';

const file = { path: 'src/a.ts', old_path: 'src/old.ts' } as Schemas['FileView'];
const ends = { base: 'b', head: 'h' };
const comment = (number: number, more: Partial<CommentView>, said: Partial<CommentView['comment']> = {}) =>
  ({
    path: 'src/a.ts',
    line_now: 5,
    stale: false,
    ...more,
    comment: { number, line: 3, side: 'new', commit: 'h', ...said },
  }) as CommentView;
const shown = new Set([key('new', 5), key('old', 5), key('new', 3)]);

test('a comment stands where its line is now, on its own side', () => {
  const placed = place(
    [comment(1, {}), comment(2, {}, { side: 'old' }), comment(3, { path: 'src/b.ts' })],
    file,
    { is: 'all' },
    ends,
    shown,
  );
  expect(placed.at.get('new:5')?.map((view) => view.comment.number)).toEqual([1]);
  expect(placed.at.get('old:5')?.map((view) => view.comment.number)).toEqual([2]);
  expect(placed.above).toEqual([]);
});

test('without a line, or with one that is not shown, it stands above the file', () => {
  const placed = place(
    [
      comment(1, { stale: true, line_now: null }),
      comment(2, { line_now: 99 }),
      comment(3, { path: 'src/old.ts', line_now: 7 }, { side: 'old' }),
    ],
    file,
    { is: 'all' },
    ends,
    shown,
  );
  expect(placed.above.map((view) => view.comment.number)).toEqual([1, 2, 3]);
});

test('in one commit only what was said there is shown, at the number it had there', () => {
  const placed = place(
    [comment(1, { stale: true }), comment(2, {}, { commit: 'other' })],
    file,
    { is: 'commit', commit: 'h' },
    ends,
    shown,
  );
  expect([...placed.at.keys()]).toEqual(['new:3']);
  expect(placed.above).toEqual([]);
});

test('a deleted line is one of before, an unchanged one of after', () => {
  expect(lineOf({ id: 1, sign: '-', text: '', old: 4 })).toEqual({ side: 'old', line: 4 });
  expect(lineOf({ id: 1, sign: ' ', text: '', old: 4, new: 6 })).toEqual({ side: 'new', line: 6 });
});
