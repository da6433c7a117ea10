/** What is asked besides the tasks themselves, each in one place with its key. Tasks live in `live`. */
import { queryOptions, QueryClient } from '@tanstack/react-query';
import { Problem, request } from './api';
import { live } from './live';

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A daemon that is being restarted is back in a second or two; everything else was an answer.
      retry: (failures, error) => Problem.of(error).unreachable && failures < 3,
      retryDelay: 500,
    },
  },
});

// What was asked before a break may be wrong after it.
let was = live.snapshot().connection.is;
live.subscribe(() => {
  const is = live.snapshot().connection.is;
  if (was === 'reconnecting' && is === 'live') void queries.invalidateQueries();
  was = is;
});

export const agentsQuery = queryOptions({
  queryKey: ['agents'],
  queryFn: ({ signal }) => request('get', '/v1/agents', { signal }),
  staleTime: 60_000,
});

export const daemonQuery = queryOptions({
  queryKey: ['daemon'],
  queryFn: ({ signal }) => request('get', '/v1/daemon', { signal }),
});

/** How full the machine is; for one repository if its path is given. */
export const capacityQuery = (path?: string) =>
  queryOptions({
    queryKey: ['capacity', path],
    queryFn: ({ signal }) =>
      request('get', '/v1/capacity', { query: path === undefined ? {} : { path }, signal }),
    refetchInterval: 5_000,
  });
