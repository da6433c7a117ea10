/** Map: `stream` follows the log, `store` keeps all tasks true by it, the hooks here show them. */
import { useEffect, useEffectEvent, useSyncExternalStore } from 'react';
import type { Entry, TaskView } from '../api';
import { LiveStore, type Connection } from './store';

export type { Connection } from './store';

export const live = new LiveStore();

/** All tasks, newest first; `undefined` until they are there. */
export function useTasks(): readonly TaskView[] | undefined {
  return useSyncExternalStore(live.subscribe, () => live.snapshot().tasks);
}

/** One task by its id; `undefined` if it is not (yet) known. */
export function useTask(id: string): TaskView | undefined {
  return useSyncExternalStore(live.subscribe, () => live.task(id));
}

export function useConnection(): Connection {
  return useSyncExternalStore(live.subscribe, () => live.snapshot().connection);
}

/** Every new entry of a task's log from now on, each once. */
export function useEntries(task: string, follower: (entry: Entry) => void): void {
  const newest = useEffectEvent(follower);
  useEffect(
    () =>
      live.follow(task, (entry) => {
        newest(entry);
      }),
    [task],
  );
}

/** How many requests wait for a person, in all tasks. */
export function useWaiting(): number {
  return useSyncExternalStore(live.subscribe, () => waiting(live.snapshot().tasks));
}

function waiting(tasks: readonly TaskView[] | undefined): number {
  let count = 0;
  for (const { task } of tasks ?? [])
    count += task.approvals?.filter((asked) => asked.answer == null).length ?? 0;
  return count;
}
