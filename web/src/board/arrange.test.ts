import { expect, test } from 'vitest';
import type { TaskState, TaskView } from '../api';
import { arrange, hold, matches } from './arrange';

function task(name: string, state: TaskState, since: number, more: Partial<TaskView['task']> = {}): TaskView {
  return {
    task: {
      id: name,
      name,
      state,
      state_since: since,
      root: '/src/shop',
      branch: `offshoot/${name}`,
      agent: 'codex',
      runs: [{ prompt: `please do ${name}` }],
      changes: { files: 0, added: 0, deleted: 0 },
      ...more,
    },
  } as TaskView;
}
const names = (sections: ReturnType<typeof arrange>) =>
  sections.map((s) => `${s.title}: ${s.tasks.map((t) => t.task.name).join(' ')}`);

const board = [
  task('r1', 'running', 10),
  task('r2', 'running', 20),
  task('a2', 'needs_attention', 20),
  task('a1', 'needs_attention', 10),
  task('c', 'complete', 5),
  task('f', 'failed', 5),
  task('s', 'stopped', 4),
  task('gone', 'discarded', 1),
  task('q', 'queued', 1, { root: '/src/api' }),
];

test('who waits for a person stands first', () => {
  expect(names(arrange(board, 'state'))).toEqual([
    'Needs attention: a1 a2',
    'Complete: c',
    'Failed: s f',
    'Running: r2 r1',
    'Queued: q',
  ]);
  expect(names(arrange(board, 'project'))).toEqual(['api: q', 'shop: a1 a2 c s f r2 r1']);
});

test('filters are words and parts', () => {
  const found = (query: string) => board.filter((view) => matches(view, query)).map((view) => view.task.name);
  expect(found('')).toHaveLength(board.length);
  expect(found('is:needs')).toEqual(['a2', 'a1']);
  expect(found('project:api agent:codex')).toEqual(['q']);
  expect(found('PLEASE do r2')).toEqual(['r2']);
  expect(found('nothing')).toEqual([]);
});

test('while the order is held nothing moves and everything is true', () => {
  const shown = arrange(board, 'state');
  const after = [
    ...board.filter((v) => v.task.name !== 'c' && v.task.name !== 'r1'),
    task('r1', 'complete', 99),
    task('new', 'running', 99),
  ];
  const { sections, waiting } = hold(shown, arrange(after, 'state'));
  expect(names(sections)).toEqual([
    'Needs attention: a1 a2',
    'Complete: ',
    'Failed: s f',
    'Running: r2 r1',
    'Queued: q',
  ]);
  expect(sections[3]?.tasks[1]?.task.state).toBe('complete');
  expect(waiting).toBe(2);
});
