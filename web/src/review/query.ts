/** What a review asks the daemon for. */
import { queryOptions } from '@tanstack/react-query';
import { Problem, request, type TaskView } from '../api';
import type { What } from './anchor';

/** Changes with whatever could change a diff: then it is asked for again. */
function state({ task }: TaskView): string {
  return [task.head, task.checkpoints.length, task.state === 'landed', task.scope?.join('\n')].join();
}

function whatQuery(what: What) {
  if (what.is === 'commit') return { commit: what.commit };
  if (what.is === 'step') return { step: what.step };
  return {};
}

export const diffQuery = (view: TaskView, what: What, ignore: boolean) =>
  queryOptions({
    queryKey: ['diff', view.task.id, what, ignore, state(view)],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/diff', {
        path: { task: view.task.id },
        query: { ...whatQuery(what), ...(ignore && { whitespace: 'ignore' as const }) },
        signal,
      }),
    staleTime: Infinity,
  });

/** One file alone, if it was too long for the whole. */
export const fileDiffQuery = (view: TaskView, what: What, ignore: boolean, file: string) =>
  queryOptions({
    queryKey: ['diff', view.task.id, what, ignore, state(view), file],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/diff', {
        path: { task: view.task.id },
        query: { ...whatQuery(what), file, ...(ignore && { whitespace: 'ignore' as const }) },
        signal,
      }),
    staleTime: Infinity,
  });

/** All lines of a file after the change, to show what is around a hunk. */
export const fileTextQuery = (view: TaskView, what: What, file: string, commit: string) =>
  queryOptions({
    queryKey: ['file', view.task.id, what, file, commit],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/file', {
        path: { task: view.task.id },
        query: { file, ...(what.is === 'step' ? { step: what.step } : { commit }) },
        signal,
      }),
    staleTime: Infinity,
  });

export const commentsKey = (task: string) => ['comments', task];

export const commentsQuery = (view: TaskView) =>
  queryOptions({
    queryKey: [...commentsKey(view.task.id), state(view), view.task.comments_made],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/comments', { path: { task: view.task.id }, query: {}, signal }),
    retry: false,
  });

export const landingQuery = (view: TaskView, squash: boolean, into?: string) =>
  queryOptions({
    queryKey: ['landing', view.task.id, squash, into, state(view), view.task.comments_made],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/landing', {
        path: { task: view.task.id },
        query: { squash, ...(into !== undefined && { into }) },
        signal,
      }),
    retry: (failures, error) => Problem.of(error).unreachable && failures < 3,
    staleTime: 10_000,
  });

export const checkQuery = (task: string, run: number, state: string) =>
  queryOptions({
    queryKey: ['check', task, run, state],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/runs/{run}/check', { path: { task, run }, query: {}, signal }),
  });
