/** Short news about what a person did: it worked, or why it did not. Never the only place where something is told. */
import { useSyncExternalStore, type ReactNode } from 'react';
import { Problem } from '../api';
import { ProblemBox } from './ProblemBox';

interface Toast {
  id: number;
  body: ReactNode;
  alert: boolean;
}

/** More than this at once nobody reads. */
const MOST = 4;
const NEWS_MS = 5000;
let toasts: readonly Toast[] = [];
let next = 0;
const listeners = new Set<() => void>();

function set(news: readonly Toast[]): void {
  toasts = news.slice(-MOST);
  for (const listener of listeners) listener();
}

function drop(id: number): void {
  set(toasts.filter((toast) => toast.id !== id));
}

/** Something worked; goes by itself. */
export function say(body: ReactNode): void {
  next += 1;
  const id = next;
  set([...toasts, { id, body, alert: false }]);
  setTimeout(() => {
    drop(id);
  }, NEWS_MS);
}

/** Something did not; stays until it is sent away. */
export function complain(error: unknown, about?: string): void {
  next += 1;
  const id = next;
  const body = (
    <>
      {about !== undefined && <p className="mb-1 text-sm font-medium">{about}</p>}
      <ProblemBox error={Problem.of(error)} />
    </>
  );
  set([...toasts, { id, body, alert: true }]);
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <div
      aria-live="polite"
      className="pointer-events-none fixed right-4 bottom-4 z-50 flex w-96 max-w-[calc(100vw-2rem)] flex-col gap-2 phone:bottom-20"
    >
      {shown.map((toast) => (
        <div
          key={toast.id}
          className="pointer-events-auto flex fade-in items-start gap-2 rounded-md bg-raised p-3 text-sm shadow-raised"
        >
          <div className="min-w-0 grow">{toast.body}</div>
          <button
            type="button"
            aria-label="Dismiss"
            className="-m-1 grid size-6 shrink-0 place-items-center rounded-sm text-muted hover:bg-hover hover:text-text touch:size-11"
            onClick={() => {
              drop(toast.id);
            }}
          >
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
