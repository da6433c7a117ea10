import { expect, test } from 'vitest';
import { looksLikeList, split } from './split';

test('lines, lists and blocks become prompts', () => {
  expect(split('one\n\n  two  \r\nthree')).toEqual(['one', 'two', 'three']);
  expect(split('- one\n* [ ] two\n3. three\n4) -x')).toEqual(['one', 'two', 'three', '-x']);
  expect(split('fix\nboth\n---\n\nand\nthis\n---\n')).toEqual(['fix\nboth', 'and\nthis']);
  expect(split(' \n')).toEqual([]);
});

test('a pasted list is known as one', () => {
  expect(looksLikeList('- one\n\n- two')).toBe(true);
  expect(looksLikeList('- one')).toBe(false);
  expect(looksLikeList('Do this:\n- one\n- two')).toBe(false);
});
