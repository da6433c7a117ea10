import { expect, test } from 'vitest';
import { bytes, count, dollars, duration, thousands } from './figures';
import { oneLine, safe } from './text';

test('figures have units and few digits', () => {
  const plain = (text: string) => text.replaceAll('\u00a0', ' ').replaceAll('\u2009', ' ');
  expect([0, 999, 1024, 431_000_000, 4 * 2 ** 30, 17.6 * 2 ** 30].map((n) => plain(bytes(n)))).toEqual([
    '0 B',
    '999 B',
    '1.0 KiB',
    '411 MiB',
    '4.0 GiB',
    '18 GiB',
  ]);
  expect([0, 59_999, 60_000, 7_500_000, 100 * 3_600_000].map((ms) => plain(duration(ms)))).toEqual([
    '0 s',
    '59 s',
    '1 min',
    '2 h 05 min',
    '4 d 4 h',
  ]);
  expect([0.001, 0.119, 12].map((cost) => plain(dollars(cost)))).toEqual(['< $0.01', '$0.12', '$12.00']);
  expect([plain(count(1, 'task')), plain(count(2, 'task'))]).toEqual(['1 task', '2 tasks']);
  expect([12, 1234, 45_678, 1_200_000].map((n) => plain(thousands(n)))).toEqual([
    '12',
    '1.2 k',
    '46 k',
    '1.2 M',
  ]);
});

test('what hides or turns text around is made visible', () => {
  expect(oneLine('  a\nb\t\u202ec\u0007\u200b  ')).toBe('a b \ufffdc\ufffd\ufffd');
  expect(safe('a\r\n\tb\u001b[31m')).toBe('a\n\tb\ufffd[31m');
  expect(oneLine('naïve 日本 \u{1f469}\u200d\u{1f4bb}')).toBe('naïve 日本 \u{1f469}\u200d\u{1f4bb}');
});
