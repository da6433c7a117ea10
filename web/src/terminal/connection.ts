/**
 * A program's bytes, both ways, for as long as it runs: a connection that breaks (the daemon was restarted) is made anew
 * and tells the whole output again, which the journal has. What is typed meanwhile is dropped rather than typed late.
 */
import type { Schemas } from '../api';
import { address } from '../api/request';
import { live } from '../live';

const BACKOFF_MS = [100, 250, 500, 1000, 2000, 4000];
/** So often refused by a daemon that answers otherwise: there is nothing to connect to. */
const TRIES = 4;

export type End = Schemas['StreamNotice'] | { type: 'unknown' };

export interface Listener {
  /** `first`: of a connection that begins at the beginning. */
  output(bytes: Uint8Array, first: boolean): void;
  state(state: 'connecting' | 'open' | 'broken'): void;
  end(end: End): void;
}

export class Connection {
  readonly #path: string;
  readonly #listener: Listener;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #over = false;
  #size: Schemas['TerminalSize'] | undefined;

  constructor(task: string, exec: string, listener: Listener) {
    this.#path = address('/v1/tasks/{task}/exec/{exec}/stream', { task, exec });
    this.#listener = listener;
    this.#connect();
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(typeof data === 'string' ? new TextEncoder().encode(data) : data);
  }

  resize(size: Schemas['TerminalSize']): void {
    this.#size = size;
    this.#request({ type: 'resize', ...size });
  }

  /** Ends the program, as closing a terminal does, and lets go. */
  hangUp(): void {
    this.#request({ type: 'signal', number: 1 });
    this.close();
  }

  close(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #request(request: Schemas['StreamRequest']): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(request));
  }

  #connect(): void {
    this.#listener.state('connecting');
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}${this.#path}`);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    let first = true;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#listener.state('open');
      if (this.#size) this.#request({ type: 'resize', ...this.#size });
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (typeof data === 'string') {
        this.#over = true;
        this.#listener.end(JSON.parse(data) as Schemas['StreamNotice']);
        return;
      }
      this.#listener.output(new Uint8Array(data, 1), first);
      first = false;
    };
    socket.onclose = () => {
      if (this.#over) return;
      this.#listener.state('broken');
      const wait = BACKOFF_MS[Math.min(this.#attempt, BACKOFF_MS.length - 1)];
      this.#attempt += 1;
      if (this.#attempt > TRIES && live.snapshot().connection.is === 'live') {
        this.#over = true;
        this.#listener.end({ type: 'unknown' });
        return;
      }
      this.#timer = setTimeout(() => {
        this.#connect();
      }, wait);
    };
  }
}
