/**
 * What Vite's own servers need to stand in for the daemon: `/v1` goes to a daemon that listens on TCP, with its token.
 * For development and for the tests; the page as it is shipped comes from the daemon itself.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ProxyOptions } from 'vite';

export interface Daemon {
  /** `127.0.0.1:7070` */
  tcp: string;
  /** Content of `api-token`. */
  token: string;
}

/** A daemon that was started with `offshoot daemon start --tcp …`; `undefined` if there is none. */
export function running(): Daemon | undefined {
  try {
    const status = JSON.parse(
      execFileSync('offshoot', ['daemon', 'status', '--json'], { encoding: 'utf8' }),
    ) as {
      tcp: string | null;
      state_dir: string;
    };
    if (status.tcp === null) return undefined;
    return { tcp: status.tcp, token: readFileSync(join(status.state_dir, 'api-token'), 'utf8').trim() };
  } catch {
    return undefined;
  }
}

/** A proxy for `/v1`, WebSockets and streams included; `through` is another way to the same daemon. */
export function proxy(daemon: Daemon, through = daemon.tcp): Record<string, ProxyOptions> {
  return {
    '/v1': {
      target: `http://${through}`,
      ws: true,
      headers: { host: daemon.tcp, origin: `http://${daemon.tcp}`, authorization: `Bearer ${daemon.token}` },
      configure: (server) => {
        // A stream begins when it begins, not with its first event; and where it breaks off, it breaks off before the
        // proxy too.
        server.on('proxyRes', (answer, _, client) => {
          setImmediate(() => {
            client.flushHeaders();
          });
          answer.on('close', () => {
            if (!answer.complete) client.destroy();
          });
        });
      },
    },
  };
}
