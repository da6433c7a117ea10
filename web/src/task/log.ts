/**
 * One task's log while its page is open: read from its end, page by page backwards as a person goes up, and continued
 * by what `live` follows. Nothing is missing and nothing is twice: what is followed begins before the first page is
 * read, and entries are told apart by number.
 */
import { useEffect, useState, useSyncExternalStore } from 'react';
import { Problem, request, type Entry } from '../api';
import { live } from '../live';
import { Fold, type Item } from './fold';

/** The first page: what fits on some screens, so that it is there at once. */
const FIRST = 400;
/** Each page is folded with all that is there: more at a time would be a frame too long. */
const PAGE = 1000;
/** The most that the daemon gives at a time. */
const WHOLE = 5000;
/** New entries are drawn together; in a page that nobody looks at, less often. */
const TOGETHER_MS = 50;

export interface LogSnapshot {
  /** `undefined` until the first page is there. */
  items: readonly Item[] | undefined;
  entries: readonly Entry[];
  /** Whether the beginning is here. */
  whole: boolean;
  reading: boolean;
  problem: Problem | undefined;
}

export class TaskLog {
  readonly task: string;
  #snapshot: LogSnapshot = {
    items: undefined,
    entries: [],
    whole: false,
    reading: false,
    problem: undefined,
  };
  #entries: Entry[] = [];
  #fold = new Fold();
  readonly #seams = new Set<number>();
  /** Followed, not yet drawn. */
  #fresh: Entry[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #listeners = new Set<() => void>();
  #abort = new AbortController();
  #unfollow: () => void = () => undefined;

  constructor(task: string) {
    this.task = task;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): LogSnapshot => this.#snapshot;

  /** Begins to follow and reads the end. */
  start(): void {
    this.#abort = new AbortController();
    this.#unfollow = live.follow(this.task, (entry) => {
      this.#fresh.push(entry);
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#draw();
      }, TOGETHER_MS);
    });
    void this.#first();
  }

  stop(): void {
    this.#unfollow();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#abort.abort();
  }

  /** One more page towards the beginning. */
  async older(limit = PAGE): Promise<void> {
    const before = this.#entries[0]?.seq;
    if (before === undefined || this.#snapshot.whole || this.#snapshot.reading) return;
    await this.#read(before, limit);
  }

  /** Everything, to search in. */
  async all(): Promise<void> {
    let had = -1;
    while (this.#entries.length > had) {
      had = this.#entries.length;
      await this.older(WHOLE);
    }
  }

  /** Tries again what failed. */
  retry(): void {
    if (this.#snapshot.items === undefined) void this.#first();
    else void this.older();
  }

  async #first(): Promise<void> {
    await followed(this.#abort.signal);
    await this.#read(Number.MAX_SAFE_INTEGER, FIRST);
  }

  async #read(before: number, limit: number): Promise<void> {
    const { signal } = this.#abort;
    if (signal.aborted) return;
    this.#say({ reading: true, problem: undefined });
    try {
      const page = await request('get', '/v1/tasks/{task}/events', {
        path: { task: this.task },
        query: { before, limit },
        signal,
      });
      const known = new Set(this.#entries.map((entry) => entry.seq));
      const news = page.entries.filter((entry) => !known.has(entry.seq));
      const seam = this.#entries[0]?.seq;
      if (seam !== undefined) this.#seams.add(seam);
      this.#entries = [...news, ...this.#entries].sort((a, b) => a.seq - b.seq);
      this.#fold = new Fold(this.#entries, this.#seams);
      this.#take();
      this.#say({
        reading: false,
        whole: page.entries.length < limit,
        items: this.#fold.items,
        entries: this.#entries,
      });
    } catch (error) {
      if (error instanceof Problem) this.#say({ reading: false, problem: error });
    }
  }

  #draw(): void {
    if (this.#snapshot.items === undefined || this.#fresh.length === 0) return;
    this.#take();
    this.#say({ items: this.#fold.items, entries: this.#entries });
  }

  /** What was followed and is newer than what is known. */
  #take(): void {
    const last = this.#entries.at(-1)?.seq ?? 0;
    const news = this.#fresh.filter((entry) => entry.seq > last);
    this.#fresh = [];
    for (const entry of news) this.#fold.add(entry);
    if (news.length > 0) this.#entries = [...this.#entries, ...news];
  }

  #say(news: Partial<LogSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...news };
    for (const listener of this.#listeners) listener();
  }
}

/** Until the log is followed: what happens from then on comes by itself. */
async function followed(signal: AbortSignal): Promise<void> {
  if (live.snapshot().tasks !== undefined) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      stop();
      resolve();
    };
    const stop = live.subscribe(() => {
      if (live.snapshot().tasks !== undefined) done();
    });
    signal.addEventListener('abort', done, { once: true });
  });
}

/** The log of a task, for as long as it is shown. */
export function useLog(task: string): [TaskLog, LogSnapshot] {
  const [log, setLog] = useState(() => new TaskLog(task));
  if (log.task !== task) setLog(new TaskLog(task));
  useEffect(() => {
    log.start();
    return () => {
      log.stop();
    };
  }, [log]);
  return [log, useSyncExternalStore(log.subscribe, log.snapshot)];
}
