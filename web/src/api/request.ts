/**
 * The one way to the daemon: a typed request of the published API, answered or refused.
 *
 * Owns the shape of a request and of what goes wrong. Nothing but `live` (the stream) and `terminal` (WebSockets)
 * talks to the network besides. Does not cache, retry or show anything.
 */
import type { components, paths } from './schema';

export type Schemas = components['schemas'];

type Method = 'get' | 'post';
type Operation<P extends keyof paths, M extends Method> = NonNullable<paths[P][M]>;
/** Paths that have this method. */
type PathOf<M extends Method> = {
  [P in keyof paths]: [Exclude<paths[P][M], undefined>] extends [never] ? never : P;
}[keyof paths];
type Answer<O> = O extends { responses: { 200: { content: { 'application/json': infer T } } } } ? T : unknown;
type Part<O, K extends 'path' | 'query'> = O extends { parameters: Record<K, infer T> }
  ? Record<K, T>
  : O extends { parameters: Partial<Record<K, infer T>> }
    ? Partial<Record<K, T>>
    : unknown;
type Body<O> = O extends { requestBody: { content: { 'application/json': infer T } } }
  ? { body: T }
  : unknown;
export type Asked<O> = Part<O, 'path'> & Part<O, 'query'> & Body<O> & { signal?: AbortSignal };

/** What the daemon refused, or why it was not reached. */
export class Problem extends Error {
  override name = 'Problem';
  readonly code: string;
  readonly status: number;
  readonly hint: string | undefined;
  /** More to read: conflicting hunks, the end of a log. */
  readonly detail: string | undefined;

  constructor(code: string, status: number, message: string, hint?: string | null, detail?: string | null) {
    super(message);
    this.code = code;
    this.status = status;
    this.hint = hint ?? undefined;
    this.detail = detail ?? undefined;
  }

  /** Nobody is signed in here (any more). */
  get signedOut(): boolean {
    return this.status === 401;
  }

  /** The daemon was not reached at all. */
  get unreachable(): boolean {
    return this.code === 'unreachable';
  }

  static of(error: unknown): Problem {
    if (error instanceof Problem) return error;
    return new Problem('page', 0, error instanceof Error ? error.message : String(error));
  }
}

/** A problem out of an answer that is not 2xx, whoever wrote it. */
export async function problemOf(answer: Response): Promise<Problem> {
  try {
    const body = (await answer.json()) as Partial<Schemas['ProblemBody']>;
    if (typeof body.code === 'string') {
      return new Problem(body.code, answer.status, body.message ?? body.code, body.hint, body.detail);
    }
  } catch {
    // Not the daemon's own words; see below.
  }
  if (answer.status === 502 || answer.status === 503 || answer.status === 504) return unreachable();
  return new Problem('http', answer.status, `the answer was ${answer.status} ${answer.statusText}`.trim());
}

/** For whoever cannot reach the daemon. */
export function unreachable(): Problem {
  return new Problem('unreachable', 0, 'the daemon does not answer', 'offshoot daemon start');
}

/** The address of a request: `{names}` of the path filled in, the query behind it. */
export function address(path: string, names: object = {}, query: object = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String((names as Record<string, unknown>)[name])),
  );
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) search.set(name, String(value));
  }
  return search.size > 0 ? `${filled}?${search.toString()}` : filled;
}

/** One request. Rejects with a `Problem`, or with an `AbortError` if its signal was raised. */
export async function request<M extends Method, P extends PathOf<M>>(
  method: M,
  path: P,
  asked: Asked<Operation<P, M>>,
): Promise<Answer<Operation<P, M>>> {
  const {
    path: names,
    query,
    body,
    signal,
  } = asked as {
    path?: object;
    query?: object;
    body?: unknown;
    signal?: AbortSignal;
  };
  const init: RequestInit = { method: method.toUpperCase(), credentials: 'same-origin', cache: 'no-store' };
  if (signal) init.signal = signal;
  init.headers = { accept: 'application/json' };
  if (method === 'post') {
    init.body = JSON.stringify(body ?? {});
    init.headers['content-type'] = 'application/json';
  }
  let answer: Response;
  try {
    answer = await fetch(address(path, names, query), init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
  if (!answer.ok) throw await problemOf(answer);
  return (await answer.json()) as Answer<Operation<P, M>>;
}
