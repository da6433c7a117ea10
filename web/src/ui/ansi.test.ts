import { expect, test } from 'vitest';
import { parse, plain } from './ansi';

const E = '\u001b';

test('colours and emphasis are kept', () => {
  expect(parse(`a ${E}[1;31mred${E}[0m ${E}[38;5;208mo${E}[39m ${E}[48;2;1;2;3mb${E}[m.`)).toEqual([
    { text: 'a ', look: {} },
    { text: 'red', look: { bold: true, fg: 1 } },
    { text: ' ', look: {} },
    { text: 'o', look: { fg: '#ff8700' } },
    { text: ' ', look: {} },
    { text: 'b', look: { bg: '#010203' } },
    { text: '.', look: {} },
  ]);
  expect(parse(`${E}[7mx${E}[27m`)).toEqual([{ text: 'x', look: { fg: 'bg', bg: 'text' } }]);
});

test('every other sequence is dropped, with what it carries', () => {
  const hostile = [
    `${E}]52;c;ZXZpbA==\u0007`,
    `${E}]0;title${E}\\`,
    `${E}]8;;javascript:alert(1)${E}\\`,
    `${E}[2J`,
    `${E}[6n`,
    `${E}[?1049h`,
    `${E}P$qm${E}\\`,
    `${E}_apc${E}\\`,
    `${E}c`,
    `${E}(0`,
    '\u009b31m',
    '\u009d52;c;eA==\u009c',
    `${E}[>0;1m`,
    `${E}[38;2;999;0;0m`,
  ];
  for (const one of hostile) expect(plain(`a${one}b`), JSON.stringify(one)).toBe('ab');
  for (const one of hostile) {
    const text = parse(`a${one}b`)
      .map((piece) => piece.text)
      .join('');
    expect(text, JSON.stringify(one)).toBe('ab');
  }
  // Cut off in the middle.
  expect(plain(`a${E}[3`)).toBe('a');
  expect(plain(`a${E}]52;c;ZXZ`)).toBe('a');
  expect(plain(`a${E}`)).toBe('a');
});

test('a progress bar is its last state', () => {
  expect(plain('10%\r50%\r100%\ndone\r\n')).toBe('100%\ndone\n');
  expect(plain('abc\b\bX')).toBe('aX');
});

test('what would turn or hide text is shown as a mark', () => {
  expect(parse('a\u202eb\u0000c')).toEqual([{ text: 'a\ufffdb\ufffdc', look: {} }]);
});

test('a long hostile output costs no more than its length', () => {
  const began = performance.now();
  parse(`${E}]`.repeat(50_000) + 'x'.repeat(50_000) + '\b'.repeat(50_000) + `${E}[`.repeat(50_000));
  expect(performance.now() - began).toBeLessThan(2000);
});
