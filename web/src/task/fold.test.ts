import { expect, test } from 'vitest';
import type { Entry, Schemas } from '../api';
import { Fold, type Item } from './fold';
import { newestTurn, rows, type View } from './rows';
import { checkWords, toolWords, took } from './words';

let seq = 0;
const run = '01900000-0000-7000-8000-000000000002';
const entry = (event: object, at = seq * 1000): Entry => {
  seq += 1;
  return { seq, at, task: 't', run, event: event as Schemas['Event'] };
};
const agent = (event: object) => entry({ type: 'agent', offset: 1, agent: event });
const queued = (prompt: string, number = 1) =>
  entry({ type: 'run_queued', number, prompt, check: 'make test' });
const turn = (prompt: string) => agent({ type: 'turn_started', turn: 0, prompt });
const message = (text: string, role = 'assistant') => agent({ type: 'message', role, text });
const tool = (id: string, status: string, more: object = {}) =>
  agent({ type: 'tool_call', id, title: 'npm test', kind: 'execute', status, locations: [], ...more });
const ended = (text?: string) => agent({ type: 'turn_ended', turn: 0, reason: 'completed', text });
const over = (end = 'complete') => entry({ type: 'run_ended', end, reason: 'the agent is done' });
const all: View = { kinds: undefined, query: '', open: new Map() };
const kinds = (items: readonly Item[]) => items.map((item) => item.is);

test('pieces of a message are one, whatever invisible stands between', () => {
  const { items } = new Fold([
    turn('go'),
    message('I look', 'thought'),
    message('Hel'),
    entry({ type: 'changes', files: 1, added: 1, deleted: 0, head: null }),
    message('lo'),
    tool('1', 'running'),
    message('again'),
  ]);
  expect(kinds(items)).toEqual(['turn', 'thought', 'message', 'tool', 'message']);
  expect(items[2]).toMatchObject({ text: 'Hello' });
});

test('news of a tool call stay in their place, and say how long it took', () => {
  const { items } = new Fold([
    turn('go'),
    tool('1', 'running'),
    message('meanwhile'),
    tool('1', 'completed', { detail: 'ok', change: 'a\n-1\n+2' }),
    tool('2', 'failed'),
  ]);
  expect(kinds(items)).toEqual(['turn', 'tool', 'message', 'tool']);
  const call = items[1];
  expect(call).toMatchObject({ status: 'completed', detail: 'ok', change: 'a\n-1\n+2' });
  expect(call?.is === 'tool' && (call.end ?? 0) - call.at).toBe(2000);
  expect(items[0]).toMatchObject({ calls: 2, failed: 1 });
});

test('the same id in another run is another call', () => {
  const other = { ...tool('1', 'running'), run: 'other' };
  expect(kinds(new Fold([tool('1', 'completed'), other]).items)).toEqual(['tool', 'tool']);
});

test('approvals are asked and answered in one place', () => {
  const approval = {
    approval: 'a',
    number: 1,
    title: 'rm -rf',
    source: {},
    subject: {},
    options: [],
    deadline: 1,
  };
  const { items } = new Fold([
    entry({ type: 'approval_requested', ...approval }),
    entry({ type: 'approval_answered', approval: 'a', verdict: 'deny', option: '', by: { type: 'person' } }),
    entry({ type: 'approval_withdrawn', approval: 'unknown', reason: '' }),
  ]);
  expect(items).toHaveLength(1);
  expect(items[0]).toMatchObject({ answer: { verdict: 'deny' } });
});

test('a check ends where it began', () => {
  const { items } = new Fold([
    entry({ type: 'check_started', command: 'make', exec: 'e' }),
    entry({ type: 'check_ended', code: 2, output: 'no' }),
  ]);
  expect(items).toMatchObject([{ is: 'check', command: 'make', over: true, code: 2, output: 'no' }]);
});

test('last words are said once', () => {
  expect(kinds(new Fold([turn('go'), message('Done.'), ended('Done.')]).items)).toEqual(['turn', 'message']);
  expect(kinds(new Fold([turn('go'), tool('1', 'completed'), ended('Done.')]).items)).toEqual([
    'turn',
    'tool',
    'message',
  ]);
});

test('older pages change no key of what is there', () => {
  const entries = [
    queued('go'),
    turn('go'),
    message('a'),
    message('b'),
    message('c'),
    tool('1', 'running'),
    over(),
  ];
  for (let cut = 1; cut < entries.length; cut += 1) {
    const seam = entries[cut]?.seq ?? 0;
    const before = new Fold(entries.slice(cut)).items.map((item) => item.key);
    const after = new Fold(entries, new Set([seam])).items.map((item) => item.key);
    expect(after.slice(-before.length)).toEqual(before);
  }
});

test('what comes one by one is what comes at once', () => {
  const entries = [
    queued('go'),
    turn('go'),
    message('a'),
    tool('1', 'running'),
    tool('1', 'completed'),
    ended(),
    over(),
  ];
  const fold = new Fold();
  for (const one of entries) fold.add(one);
  expect(fold.items).toEqual(new Fold(entries).items);
});

const two = () => [
  queued('first'),
  turn('first'),
  message('one'),
  tool('1', 'completed'),
  message('two'),
  ended(),
  over(),
  queued('second', 2),
  turn('second'),
  tool('1', 'completed'),
  message('three'),
];

test('all turns but the newest are folded to their last message', () => {
  const { items } = new Fold(two());
  expect(kinds(rows(items, all))).toEqual([
    'run',
    'turn',
    'message',
    'note',
    'run',
    'turn',
    'tool',
    'message',
  ]);
  const first = items.find((item) => item.is === 'turn')?.turn ?? '';
  expect(rows(items, { ...all, open: new Map([[first, true]]) })).toHaveLength(items.length);
  const folded = rows(items, { ...all, open: new Map([[newestTurn(items) ?? '', false]]) });
  expect(kinds(folded)).toEqual(['run', 'turn', 'message', 'note', 'run', 'turn', 'message']);
});

test('kinds and words choose', () => {
  const { items } = new Fold(two());
  expect(kinds(rows(items, { ...all, kinds: new Set(['tool'] as const) }))).toEqual([
    'run',
    'tool',
    'run',
    'tool',
  ]);
  expect(rows(items, { ...all, query: ' TWO' })).toMatchObject([{ text: 'two' }]);
  const coloured = new Fold([tool('1', 'failed', { detail: 'a \u001b[31mfai\u001b[0mled test' })]).items;
  expect(rows(coloured, { ...all, query: 'failed test' })).toHaveLength(1);
});

test('20,000 entries are folded in the time of a few frames', () => {
  const entries = [turn('go')];
  for (let number = 0; number < 10_000; number += 1)
    entries.push(tool(String(number), 'running'), tool(String(number), 'completed'));
  const began = performance.now();
  const { items } = new Fold(entries);
  rows(items, all);
  expect(performance.now() - began).toBeLessThan(2000);
  expect(items).toHaveLength(10_001);
});

test('tool calls are said in words', () => {
  expect(toolWords('Bash: npm test', 'execute', 'running')).toEqual({
    verb: 'Runs',
    about: 'npm test',
    code: true,
  });
  expect(toolWords('Edit a b.txt', 'edit', 'completed')).toEqual({
    verb: 'Changed',
    about: 'a b.txt',
    code: true,
  });
  expect(toolWords('Edit: a.txt', 'edit', 'failed').verb).toBe('Edit');
  expect(toolWords('Look at thing 1', 'search', 'completed')).toMatchObject({
    verb: '',
    about: 'Look at thing 1',
  });
  expect(toolWords('Ask the person', 'think', 'running').about).toBe('Ask the person');
  expect(toolWords('constructor', 'other', 'completed').about).toBe('constructor');
});

test('durations and ends have their words', () => {
  expect(
    [0.2, 12, 1500, 42_000, 63_000].map(took).map((text) => text.replace(/[\u00a0\u2009]/g, ' ')),
  ).toEqual(['< 1 ms', '12 ms', '1.5 s', '42 s', '1 min 3 s']);
  expect([
    checkWords(false, undefined),
    checkWords(true, 0),
    checkWords(true, 3),
    checkWords(true, undefined),
  ]).toEqual(['runs', 'passed', 'failed with 3', 'was killed or took too long']);
});
