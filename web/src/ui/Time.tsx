/** Time that goes on: one clock for the whole page, which ticks only while somebody looks. */
import { useSyncExternalStore } from 'react';
import { live } from '../live';
import { clock, duration } from './figures';

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;
let second = Math.floor(Date.now() / 1000);

function tick(): void {
  if (document.hidden) return;
  second = Math.floor(Date.now() / 1000);
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(tick, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** This second, by this machine's clock: whoever uses it is drawn anew each second. */
export function useSecond(): number {
  return useSyncExternalStore(subscribe, () => second);
}

/** A duration up to now, by the daemon's clock. Drawn again only when its text changes. */
export function Elapsed({ since, until }: { since: number; until?: number | null | undefined }) {
  const text = useSyncExternalStore(subscribe, () => duration((until ?? second * 1000 + live.skew) - since));
  return (
    <time dateTime={new Date(since).toISOString()} title={`since ${clock(since, live.now())}`} data-elapsed>
      {text}
    </time>
  );
}

/** A moment: `12:04`. */
export function Moment({ at }: { at: number }) {
  return (
    <time dateTime={new Date(at).toISOString()} title={new Date(at).toLocaleString()} data-moment>
      {clock(at, live.now())}
    </time>
  );
}
