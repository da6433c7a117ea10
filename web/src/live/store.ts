/**
 * All tasks, as they are now.
 *
 * The list is read once; from then on every entry of the log marks its task as to be read again. Nothing is folded
 * here: what is shown is what the daemon says. Reading again is bounded: one pass at a time and at most one in
 * `PASS_MS`; a few marked tasks are read one by one, many by one list. So a flood of events costs no more than a list
 * every quarter of a second, and answers can never overtake each other.
 */
import type { Entry, Problem, TaskView } from '../api';
import { Problem as ProblemClass, request } from '../api';
import { Stream } from './stream';

/** Passes are this far apart at least. */
const PASS_MS = 250;
/** From this many marked tasks on, one list is cheaper than single tasks. */
const MANY = 4;
/** After a pass that failed. */
const RETRY_MS = 1000;
/** Memory and disk change without an event; how often they are read while somebody looks. */
const REFRESH_MS = 10_000;
/** A page that nobody looks at lets go of its connection after this time: browsers have six for one host. */
const HIDDEN_MS = 60_000;

export type Connection =
  { is: 'starting' } | { is: 'live' } | { is: 'reconnecting'; since: number } | { is: 'signed_out' };

export interface Snapshot {
  /** `undefined` until the first list is there. */
  tasks: readonly TaskView[] | undefined;
  connection: Connection;
}

type Follower = (entry: Entry) => void;

export class LiveStore {
  #snapshot: Snapshot = { tasks: undefined, connection: { is: 'starting' } };
  /** In the order of the daemon's list: newest first. */
  #tasks = new Map<string, TaskView>();
  #marked = new Set<string>();
  #wholeList = true;
  #passing = false;
  #passTimer: ReturnType<typeof setTimeout> | undefined;
  #passedAt = 0;
  #stream: Stream | undefined;
  #listeners = new Set<() => void>();
  #followers = new Map<string, Set<Follower>>();
  /** Also those that are landed or discarded. */
  #all = false;
  /** The daemon's clock minus this machine's, in milliseconds. */
  skew = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): Snapshot => this.#snapshot;

  task(id: string): TaskView | undefined {
    return this.#tasks.get(id);
  }

  /** Now, by the daemon's clock. */
  now(): number {
    return Date.now() + this.skew;
  }

  /** The newest entry of the log that is known here. */
  get seq(): number {
    return this.#stream?.after ?? 0;
  }

  /** Calls with every new entry of a task, in order and each once. What was before has to be read as a list. */
  follow(task: string, follower: Follower): () => void {
    const followers = this.#followers.get(task) ?? new Set();
    this.#followers.set(task, followers.add(follower));
    return () => {
      followers.delete(follower);
      if (followers.size === 0) this.#followers.delete(task);
    };
  }

  /** From now on also tasks that are over. */
  includeOver(): void {
    if (this.#all) return;
    this.#all = true;
    this.reread();
  }

  /** Reads a task again, or all: after something was done to it, without waiting for the event. */
  reread(task?: string): void {
    if (task === undefined) this.#wholeList = true;
    else this.#marked.add(task);
    this.#schedule();
  }

  /** Begins; called once by the page. */
  start(): void {
    void this.#pass();
    setInterval(() => {
      if (!document.hidden && this.#snapshot.connection.is === 'live') this.reread();
    }, REFRESH_MS);
    addEventListener('online', () => this.#stream?.hurry());
    this.#restInBackground();
  }

  /** After somebody signed in. */
  restart(): void {
    this.#passedAt = 0;
    this.#say({ connection: { is: 'starting' } });
    this.reread();
    this.#stream?.start();
  }

  #restInBackground(): void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    // One page of this browser stays connected even so, to have its title and its badge right.
    let stays = false;
    // Only secure contexts have locks; a phone over plain HTTP has none.
    const locks = navigator.locks as LockManager | undefined;
    void locks?.request('offshoot.live', () => {
      stays = true;
      this.#stream?.start();
      return new Promise(() => undefined);
    });
    document.addEventListener('visibilitychange', () => {
      clearTimeout(timer);
      if (document.hidden) {
        timer = setTimeout(() => {
          if (!stays) this.#stream?.stop();
        }, HIDDEN_MS);
      } else {
        this.#stream?.hurry();
        this.#stream?.start();
        this.reread();
      }
    });
  }

  #schedule(): void {
    if (this.#passing || this.#passTimer !== undefined) return;
    const wait = Math.max(10, this.#passedAt + PASS_MS - Date.now());
    this.#passTimer = setTimeout(() => {
      this.#passTimer = undefined;
      void this.#pass();
    }, wait);
  }

  async #pass(): Promise<void> {
    this.#passing = true;
    const marked = this.#marked;
    const whole = this.#wholeList || marked.size >= MANY;
    this.#marked = new Set();
    this.#wholeList = false;
    let again = 0;
    try {
      if (whole) await this.#readList(marked);
      else await Promise.all([...marked].map((task) => this.#readTask(task)));
      this.#say({ tasks: [...this.#tasks.values()] });
    } catch (error) {
      for (const task of marked) this.#marked.add(task);
      this.#wholeList ||= whole;
      const problem = ProblemClass.of(error);
      // Where there is a stream, it is the one that knows whether the daemon is there.
      if (problem.signedOut || !this.#stream) this.#lost(problem);
      again = problem.signedOut ? Infinity : RETRY_MS;
    }
    this.#passing = false;
    this.#passedAt = Date.now() + again;
    if (again < Infinity && this.#isDue()) this.#schedule();
  }

  #isDue(): boolean {
    return this.#wholeList || this.#marked.size > 0;
  }

  async #readList(marked: Set<string>): Promise<void> {
    const list = await request('get', '/v1/tasks', { query: { all: this.#all } });
    this.skew = list.now - Date.now();
    const stream = this.#stream;
    // A log that is shorter than what was read is another log: another daemon's state.
    if (stream && list.seq < stream.after) {
      stream.stop();
      this.#stream = undefined;
      this.#tasks.clear();
    }
    const before = this.#tasks;
    const next = new Map<string, TaskView>();
    for (const view of list.tasks) {
      const known = before.get(view.task.id);
      next.set(view.task.id, known && !marked.has(view.task.id) && same(known, view) ? known : view);
    }
    // What the list leaves out is over, or gone.
    const missing = [...before.keys(), ...marked].filter((task) => !next.has(task));
    for (const task of missing) {
      const known = before.get(task);
      if (known) next.set(task, known);
    }
    this.#tasks = next;
    await Promise.all(
      [...new Set(missing)]
        .filter((task) => marked.has(task) || !isOver(before.get(task)))
        .map((task) => this.#readTask(task)),
    );
    if (!this.#stream) {
      this.#stream = new Stream(list.seq, {
        entry: (entry) => {
          this.#entry(entry);
        },
        open: () => {
          if (this.#snapshot.connection.is === 'reconnecting') this.reread();
          this.#say({ connection: { is: 'live' } });
        },
        lost: (problem) => {
          this.#lost(problem);
        },
      });
      this.#stream.start();
    }
  }

  async #readTask(task: string): Promise<void> {
    try {
      const view = await request('get', '/v1/tasks/{task}', { path: { task } });
      if (this.#tasks.has(task)) this.#tasks.set(task, view);
      else this.#tasks = new Map([[task, view], ...this.#tasks]);
    } catch (error) {
      if (error instanceof ProblemClass && error.status === 404) this.#tasks.delete(task);
      else throw error;
    }
  }

  #entry(entry: Entry): void {
    this.#marked.add(entry.task);
    this.#schedule();
    for (const follower of this.#followers.get(entry.task) ?? []) follower(entry);
  }

  #lost(problem: Problem): void {
    if (problem.signedOut) this.#say({ connection: { is: 'signed_out' } });
    else if (this.#snapshot.connection.is !== 'reconnecting') {
      this.#say({ connection: { is: 'reconnecting', since: Date.now() } });
    }
  }

  #say(news: Partial<Snapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...news };
    for (const listener of this.#listeners) listener();
  }
}

function isOver(view: TaskView | undefined): boolean {
  return view?.task.state === 'landed' || view?.task.state === 'discarded';
}

/** Whether a task that no event was about looks as before. */
function same(a: TaskView, b: TaskView): boolean {
  return (
    a.task.updated_at === b.task.updated_at &&
    a.queue_place === b.queue_place &&
    a.waits_for === b.waits_for &&
    a.memory_bytes === b.memory_bytes &&
    a.processes === b.processes &&
    a.disk_bytes === b.disk_bytes &&
    JSON.stringify([a.apps, a.ports]) === JSON.stringify([b.apps, b.ports])
  );
}
