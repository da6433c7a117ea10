/**
 * What the tests stand on: a real daemon with a state directory of its own, real repositories, the scripted agent, and
 * the built page in front of it under the policy that it is shipped with. One stage for each worker.
 *
 * `OFFSHOOT_BIN` names the directory with the binaries; `../target/debug` if it is not set. The page is what `npm run
 * build` left in `dist`. Nothing is kept: the stage takes everything away again.
 */
import { test as base, expect, type Page } from '@playwright/test';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { preview, type PreviewServer } from 'vite';
import type { Schemas, TaskView } from '../src/api';
import { CSP } from '../csp.ts';
import { proxy } from '../daemon.ts';

const run = promisify(execFile);
const web = resolve(import.meta.dirname, '..');
const binaries = resolve(web, process.env['OFFSHOOT_BIN'] ?? '../target/debug');

/** The network between the page and the daemon, which can be cut. */
class Cable {
  #whole = true;
  readonly #to: string;
  readonly #ends = new Set<Socket>();
  readonly #server = createServer((near) => {
    if (!this.#whole) {
      near.destroy();
      return;
    }
    const [host = '', port] = this.#to.split(':');
    const far = connect(Number(port), host);
    for (const [end, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#ends.add(end);
      end.on('error', () => other.destroy());
      end.on('close', () => {
        this.#ends.delete(end);
        other.destroy();
      });
      end.pipe(other);
    }
  });

  constructor(to: string) {
    this.#to = to;
  }

  async lay(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.#whole = false;
    for (const end of this.#ends) end.destroy();
  }

  mend(): void {
    this.#whole = true;
  }

  remove(): void {
    this.cut();
    this.#server.close();
  }
}

export class Stage {
  readonly root = mkdtempSync(join(tmpdir(), 'offshoot-web-'));
  readonly state = join(this.root, 'state');
  readonly #env: NodeJS.ProcessEnv;
  #tcp = '';
  #token = '';
  #server: PreviewServer | undefined;
  #cable: Cable | undefined;

  constructor(config: string) {
    // A sandbox maps other users in, who have to be able to look through.
    execFileSync('chmod', ['755', this.root]);
    writeFileSync(join(this.root, 'offshoot.toml'), config);
    this.#env = {
      PATH: `${binaries}:${process.env['PATH'] ?? ''}`,
      HOME: this.root,
      LANG: 'C.UTF-8',
      OFFSHOOT_STATE_DIR: this.state,
      OFFSHOOT_CONFIG: join(this.root, 'offshoot.toml'),
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_AUTHOR_NAME: 'Test',
      GIT_AUTHOR_EMAIL: 'test@localhost',
      GIT_COMMITTER_NAME: 'Test',
      GIT_COMMITTER_EMAIL: 'test@localhost',
    };
  }

  /** The command line, as a person has it. */
  async offshoot(...args: string[]): Promise<string> {
    const { stdout } = await run(join(binaries, 'offshoot'), args, { env: this.#env, cwd: this.root });
    return stdout;
  }

  async startDaemon(): Promise<void> {
    await this.offshoot('daemon', 'start', '--tcp', this.#tcp === '' ? '127.0.0.1:0' : this.#tcp);
    const status = JSON.parse(await this.offshoot('daemon', 'status', '--json')) as Schemas['DaemonView'];
    this.#tcp = status.tcp ?? '';
    this.#token = readFileSync(join(this.state, 'api-token'), 'utf8').trim();
  }

  async stopDaemon(): Promise<void> {
    await this.offshoot('daemon', 'stop');
  }

  /** `kill -9`, as of a machine that has no memory left. */
  async killDaemon(): Promise<void> {
    const status = JSON.parse(await this.offshoot('daemon', 'status', '--json')) as Schemas['DaemonView'];
    process.kill(status.pid, 'SIGKILL');
  }

  /** Nothing gets from the page to the daemon or back, until `mend`. */
  cut(): void {
    this.#cable?.cut();
  }

  mend(): void {
    this.#cable?.mend();
  }

  async servePage(): Promise<string> {
    this.#cable = new Cable(this.#tcp);
    const through = await this.#cable.lay();
    this.#server = await preview({
      root: web,
      configFile: false,
      logLevel: 'error',
      preview: {
        host: '127.0.0.1',
        port: 0,
        strictPort: false,
        headers: { 'content-security-policy': CSP },
        proxy: proxy({ tcp: this.#tcp, token: this.#token }, through),
      },
    });
    const url = this.#server.resolvedUrls?.local[0];
    if (url === undefined) throw new Error('the page is not served');
    return url.replace(/\/$/, '');
  }

  /** A repository with one commit on `main`; `files` by path. Answers with its directory. */
  repository(name: string, files: Record<string, string> = { 'README.md': `# ${name}\n` }): string {
    const dir = join(this.root, name);
    mkdirSync(dir, { recursive: true });
    const git = (...args: string[]) => execFileSync('git', args, { cwd: dir, env: this.#env });
    git('init', '-q', '-b', 'main');
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(dir, path, '..'), { recursive: true });
      writeFileSync(join(dir, path), text);
    }
    git('add', '-A');
    git('commit', '-qm', 'Begin');
    return dir;
  }

  /** A request past the page. */
  async api<T = unknown>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
    const answer = await fetch(`http://${this.#tcp}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#token}`, 'content-type': 'application/json' },
      ...(method === 'POST' && { body: JSON.stringify(body ?? {}) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  /** A task for the scripted agent: lines that begin with `@` are its steps (see `offshoot-testkit`, `script`). */
  async task(path: string, prompt: string, more: Partial<Schemas['TaskParams']> = {}): Promise<TaskView> {
    return this.api<TaskView>('POST', '/v1/tasks', { path, prompt, agent: 'scripted', ...more });
  }

  /** Waits until a task is in one of these states. */
  async until(task: string, ...states: Schemas['TaskState'][]): Promise<TaskView> {
    let view: TaskView | undefined;
    await expect
      .poll(
        async () => {
          view = await this.api<TaskView>('GET', `/v1/tasks/${task}`);
          return states.includes(view.task.state) ? 'there' : `${view.task.state}: ${view.task.reason ?? ''}`;
        },
        { timeout: 30_000, intervals: [50, 100, 250] },
      )
      .toBe('there');
    return view as unknown as TaskView;
  }

  /** Throws all tasks away, also those that are being made meanwhile, so that the next test begins with an empty board. */
  async clear(): Promise<void> {
    for (;;) {
      const { tasks } = await this.api<Schemas['TaskList']>('GET', '/v1/tasks');
      if (tasks.length === 0) return;
      await Promise.all(
        tasks.map(({ task }) => this.api('POST', `/v1/tasks/${task.id}/discard`, { force: true })),
      );
    }
  }

  async end(): Promise<void> {
    this.#cable?.remove();
    await this.#server?.close();
    await this.clear().catch(() => undefined);
    await this.stopDaemon().catch(() => undefined);
    rmSync(this.root, { recursive: true, force: true, maxRetries: 5 });
  }
}

export const test = base.extend<
  { quiet: boolean; empty: boolean },
  { config: string; stage: Stage; address: string }
>({
  /** `offshoot.toml` of the user. */
  config: ['', { option: true, scope: 'worker' }],
  stage: [
    async ({ config }, use) => {
      const stage = new Stage(config);
      await stage.startDaemon();
      await use(stage);
      await stage.end();
    },
    { scope: 'worker', timeout: 60_000 },
  ],
  address: [
    async ({ stage }, use) => {
      await use(await stage.servePage());
    },
    { scope: 'worker' },
  ],
  baseURL: async ({ address }, use) => {
    await use(address);
  },
  /** Whether the test fails if the page complains in its console (a refused style, an exception). */
  quiet: [true, { option: true }],
  /** Whether the board is emptied before the test. */
  empty: [true, { option: true }],
  page: async ({ page, quiet, empty, stage }, use) => {
    const complaints = listen(page);
    if (empty) await stage.clear();
    await use(page);
    if (quiet) expect(complaints, 'what the page complained about').toEqual([]);
  },
});

/** Collects what a page complains about. */
export function listen(page: Page): string[] {
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    // Of the tests' own making.
    if (message.text().startsWith('Service Worker registration blocked')) return;
    // A daemon that is restarted on purpose is a failed request, which every browser tells.
    if (message.text().startsWith('Failed to load resource')) return;
    complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.stack ?? error.message));
  return complaints;
}

export { expect };
