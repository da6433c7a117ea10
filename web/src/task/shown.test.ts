import { expect, test } from 'vitest';
import { counted, marks } from './lines';
import { address } from './links';

test('links lead to web addresses and letters only', () => {
  expect(address('https://example.com/a?b#c')).toBe('https://example.com/a?b#c');
  expect(address('mailto:a@example.com')).toBe('mailto:a@example.com');
  for (const bad of [
    'javascript:alert(1)',
    ' javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    'java\nscript:alert(1)',
    'data:text/html,<script>alert(1)</script>',
    'vbscript:x',
    'file:///etc/passwd',
    '/v1/daemon/stop',
    '//example.com',
    '#x',
  ])
    expect(address(bad), bad).toBe('');
});

test('changes as agents tell them, and as git does', () => {
  const agent = '/w/a.ts\n-old\n+new\n+more';
  expect(marks(agent).map(({ mark }) => mark)).toEqual(['path', 'gone', 'come', 'come']);
  expect(counted(agent)).toEqual({ added: 2, deleted: 1 });
  const git = [
    'diff --git a/a.ts b/a.ts',
    'index 1..2 100644',
    '--- a/a.ts',
    '+++ b/a.ts',
    '@@ -1,2 +1,2 @@',
    ' same',
    '--- gone',
    '+++ come',
    '\\ No newline at end of file',
    '',
  ].join('\n');
  expect(marks(git).map(({ mark }) => mark)).toEqual([
    'path',
    'aside',
    'aside',
    'aside',
    'place',
    'same',
    'gone',
    'come',
    'aside',
  ]);
  expect(counted(git)).toEqual({ added: 1, deleted: 1 });
});
