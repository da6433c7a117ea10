/**
 * The log, followed: every entry after a number, once and in order, for as long as somebody wants it.
 *
 * A connection that breaks, or says nothing for longer than the daemon's comments are apart, is made anew from the last
 * entry that was read, so nothing is missed and nothing comes twice. `fetch` rather than `EventSource`: it tells why it
 * was refused, and shows the comments that say the other side is alive.
 */
import type { Entry, Problem } from '../api';
import { problemOf, unreachable } from '../api/request';
import { Reader } from './sse';

/** The daemon says something every 15 s; after three of those the connection is taken for dead. */
const SILENCE_MS = 45_000;
/** The first new attempt comes at once, as after a restart of the daemon; the others ever later, up to this. */
const BACKOFF_MS = [100, 250, 500, 1000, 2000, 4000];

export interface Listener {
  entry(entry: Entry): void;
  /** The stream is there (again). */
  open(): void;
  /** It is not; it is tried again, unless nobody is signed in. */
  lost(problem: Problem): void;
}

export class Stream {
  /** The newest entry that was read. */
  after: number;
  readonly #listener: Listener;
  #attempt = 0;
  #abort: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(after: number, listener: Listener) {
    this.after = after;
    this.#listener = listener;
  }

  /** Connects, if it is not connected or about to be. */
  start(): void {
    if (this.#abort || this.#timer !== undefined) return;
    void this.#read();
  }

  /** Tries now what would be tried later. */
  hurry(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    void this.#read();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#abort?.abort();
    this.#abort = undefined;
  }

  async #read(): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    let problem: Problem = unreachable();
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => {
        abort.abort();
      }, SILENCE_MS);
    };
    try {
      alive();
      const answer = await fetch(`/v1/events?after=${this.after}`, {
        headers: { accept: 'text/event-stream' },
        credentials: 'same-origin',
        cache: 'no-store',
        signal: abort.signal,
      });
      if (!answer.ok || !answer.body) {
        problem = await problemOf(answer);
      } else {
        this.#attempt = 0;
        this.#listener.open();
        const reader = new Reader();
        const decoder = new TextDecoder();
        for await (const piece of pieces(answer.body)) {
          alive();
          if (this.#abort !== abort) return;
          for (const message of reader.feed(decoder.decode(piece, { stream: true })))
            this.#take(message.data);
        }
      }
    } catch {
      // Broken off: what is left to do is the same as after an end.
    } finally {
      clearTimeout(watchdog);
    }
    if (this.#abort !== abort) return;
    this.#abort = undefined;
    this.#listener.lost(problem);
    if (problem.signedOut) return;
    const wait = BACKOFF_MS[Math.min(this.#attempt, BACKOFF_MS.length - 1)];
    this.#attempt += 1;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#read();
    }, wait);
  }

  #take(data: string): void {
    const entry = JSON.parse(data) as Entry;
    // A resumed stream begins after what was read; this keeps it true whatever stands between.
    if (entry.seq <= this.after) return;
    this.after = entry.seq;
    this.#listener.entry(entry);
  }
}

/** Not every browser can iterate over a body. */
async function* pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
