/** What waits, what became of what waited, and standing rules; asked again whenever the log says that it changed. */
import { infiniteQueryOptions, queryOptions, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { request } from '../api';
import { useTasks } from '../live';

export const waitingQuery = queryOptions({
  queryKey: ['approvals', 'waiting'],
  queryFn: ({ signal }) => request('get', '/v1/approvals', { query: {}, signal }),
  // Deadlines pass without anybody's doing.
  refetchInterval: 30_000,
});

/** The newest of all there ever were. */
export const newestQuery = queryOptions({
  queryKey: ['approvals', 'newest'],
  queryFn: ({ signal }) => request('get', '/v1/approvals', { query: { state: 'all', limit: 100 }, signal }),
});

export const historyQuery = infiniteQueryOptions({
  queryKey: ['approvals', 'history'],
  queryFn: ({ signal, pageParam }) =>
    request('get', '/v1/approvals', {
      query: { state: 'all', limit: 50, ...(pageParam !== undefined && { before: pageParam }) },
      signal,
    }),
  initialPageParam: undefined as number | undefined,
  getNextPageParam: (page) => page.next ?? undefined,
});

export const rulesQuery = queryOptions({
  queryKey: ['approvals', 'rules'],
  queryFn: ({ signal }) => request('get', '/v1/approvals/rules', { query: {}, signal }),
});

/** What the agent said last, to know why it asks. */
export const contextQuery = (task: string, seq: number) =>
  queryOptions({
    queryKey: ['approvals', 'context', task, Math.floor(seq / 50)],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/events', {
        path: { task },
        // The end of the log: what an agent said long before explains little.
        query: { after: Math.max(0, seq - 2_000), limit: 500 },
        signal,
      }),
    staleTime: 60_000,
  });

/** Asks again when anything that waits, or a rule, has changed in the tasks. */
export function useFreshApprovals(): void {
  const client = useQueryClient();
  const shape = (useTasks() ?? [])
    .flatMap(({ task }) => [
      ...(task.approvals ?? []).map((asked) => `${asked.id}${asked.state}${asked.answer ? 1 : 0}`),
      ...(task.rules ?? []).map((rule) => rule.id),
    ])
    .join();
  useEffect(() => {
    void client.invalidateQueries({ queryKey: ['approvals'], refetchType: 'active' });
  }, [client, shape]);
}
