/**
 * Which files a person has seen, kept in this browser. A mark holds for a file's changes as they were: whatever
 * changes them takes it away.
 */
import { useSyncExternalStore } from 'react';
import { remember, remembered } from '../ui/storage';

/** Tasks whose marks are kept; those of the oldest go. */
const TASKS = 30;

type Marks = Record<string, string>;
type All = { task: string; marks: Marks }[];

const isAll = (value: unknown): value is All =>
  Array.isArray(value) &&
  value.every((one: unknown) => typeof one === 'object' && one !== null && 'task' in one && 'marks' in one);

let all: All = remembered('viewed', isAll) ?? [];
const listeners = new Set<() => void>();
const none: Marks = {};

/** A short name for a text: enough to see that it has changed. */
export function fingerprint(text: string): string {
  let one = 0x811c9dc5;
  let two = 0x9e3779b9;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    one = Math.imul(one ^ code, 0x01000193);
    two = Math.imul(two ^ code, 0x85ebca6b);
  }
  return `${(one >>> 0).toString(36)}${(two >>> 0).toString(36)}${text.length.toString(36)}`;
}

export function useViewed(task: string): {
  marks: Readonly<Marks>;
  mark: (path: string, print: string | undefined) => void;
} {
  const marks = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => all.find((one) => one.task === task)?.marks ?? none,
  );
  return {
    marks,
    mark: (path, print) => {
      const before = Object.entries(all.find((one) => one.task === task)?.marks ?? none);
      const others = before.filter(([other]) => other !== path);
      const next = Object.fromEntries(print === undefined ? others : [...others, [path, print]]);
      all = [{ task, marks: next }, ...all.filter((one) => one.task !== task)].slice(0, TASKS);
      remember('viewed', all);
      for (const listener of listeners) listener();
    },
  };
}
