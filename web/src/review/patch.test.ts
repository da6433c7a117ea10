import { expect, test } from 'vitest';
import { differing, hunks, marks, pairs, sections } from './patch';

const patch = `diff --git a/a.txt b/a.txt
index 1..2 100644
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,4 @@ fn main() {
 one
-two
+zwei
+und
 three
\\ No newline at end of file
@@ -10 +11,0 @@
-ten
diff --git "a/x\\ny" "b/x\\ny"
new file mode 100644
--- /dev/null
+++ "b/x\\ny"
@@ -0,0 +1 @@
+diff --git a/fake b/fake
diff --git a/bin b/bin
Binary files a/bin and b/bin differ
`;

test('sections are told by what no line of a file can begin with', () => {
  const found = sections(patch);
  expect(found).toHaveLength(3);
  expect(found.join('')).toBe(patch);
  expect(sections('')).toEqual([]);
  expect(sections('nothing of the kind')).toEqual([]);
});

test('lines have their numbers on both sides', () => {
  const [first, second] = hunks(sections(patch)[0] ?? '');
  expect(first?.heading).toBe('fn main() {');
  expect(first?.lines.map((line) => [line.sign, line.old, line.new, line.text])).toEqual([
    [' ', 1, 1, 'one'],
    ['-', 2, undefined, 'two'],
    ['+', undefined, 2, 'zwei'],
    ['+', undefined, 3, 'und'],
    [' ', 3, 4, 'three'],
  ]);
  expect(first?.lines.at(-1)?.open).toBe(true);
  expect(second?.lines).toMatchObject([{ sign: '-', text: 'ten', old: 10 }]);
  expect(hunks(sections(patch)[1] ?? '')[0]?.lines[0]?.text).toBe('diff --git a/fake b/fake');
  expect(hunks(sections(patch)[2] ?? '')).toEqual([]);
});

test('a header that lies takes no more than what is there, and no less than it says', () => {
  expect(hunks('@@ -1,999999999 +1,999999999 @@\n a')[0]?.lines).toHaveLength(1);
  expect(hunks('@@ -1,1 +1,1 @@\n a\n+not of this hunk')[0]?.lines).toHaveLength(1);
  expect(hunks('@@ -1 +1 @@\n-a\n+@@ -1 +1 @@\n')[0]?.lines).toHaveLength(2);
  expect(hunks('@@ -99999999999 +1 @@\n+a')).toEqual([]);
  expect(
    hunks('@@ -1,2 +1,2 @@\n a\r\n-\u2028<script>\n+\u202e\n')[0]?.lines.map((line) => line.text),
  ).toEqual(['a\r', '\u2028<script>', '\u202e']);
});

test('side by side: what was deleted is beside what came instead', () => {
  const [hunk] = hunks('@@ -1,4 +1,3 @@\n-a\n-b\n+A\n c\n-d\n+D\n');
  expect(pairs(hunk?.lines ?? []).map(({ left, right }) => [left?.text, right?.text])).toEqual([
    ['a', 'A'],
    ['b', undefined],
    ['c', 'c'],
    ['d', 'D'],
  ]);
});

test('what differs within a line', () => {
  expect(differing('const a = 1;', 'const b = 1;')).toEqual({ a: [6, 7], b: [6, 7] });
  expect(differing('abcdef', 'abcdefgh')).toEqual({ a: [6, 6], b: [6, 8] });
  expect(differing('one', 'another thing')).toBeUndefined();
  const [hunk] = hunks('@@ -1 +1 @@\n-let x = 1;\n+let x = 2;\n');
  expect([...marks(hunk?.lines ?? []).values()]).toEqual([
    [8, 9],
    [8, 9],
  ]);
});
