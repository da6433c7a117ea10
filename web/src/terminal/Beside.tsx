/** What runs beside the terminals: apps, services, ports; with the commands that do the same from a terminal. */
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { Problem, request, type Schemas, type TaskView } from '../api';
import { live } from '../live';
import { Button, buttonClass } from '../ui/Button';
import { Command } from '../ui/Command';
import { bytes } from '../ui/figures';
import { Menu } from '../ui/Menu';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine, safe } from '../ui/text';
import { Elapsed, Moment } from '../ui/Time';
import { complain } from '../ui/toasts';
import type { Tab } from './tabs';

type Change = Schemas['AppChange'];
type Service = Schemas['ServiceStatus'];

export function Beside({ view, onLog }: { view: TaskView; onLog: (tab: Tab) => void }) {
  const { task } = view;
  const services = useServices(view);
  const apps = view.apps ?? [];
  const ports = view.ports ?? [];
  return (
    <>
      <Section title="Apps">
        {apps.length === 0 ? (
          <Nothing>
            None. An app is a command that <code className="font-mono text-xs">offshoot.toml</code> names:{' '}
            <code className="font-mono text-xs">[apps.web]</code> with{' '}
            <code className="font-mono text-xs">command</code> and{' '}
            <code className="font-mono text-xs">port</code>.
          </Nothing>
        ) : (
          <ul className="flex flex-col gap-3">
            {apps.map((app) => (
              <App key={app.name} app={app} task={task.id} onLog={onLog} />
            ))}
          </ul>
        )}
      </Section>
      {services.error && Problem.of(services.error).status !== 404 && (
        <Section title="Services">
          <ProblemBox error={services.error} />
        </Section>
      )}
      {services.data && services.data.services.length > 0 && (
        <Section title="Services">
          <ul className="flex flex-col gap-3">
            {services.data.services.map((service) => (
              <ServiceRow key={service.name} service={service} task={task.id} onLog={onLog} />
            ))}
          </ul>
        </Section>
      )}
      {ports.length > 0 && (
        <Section title="Ports of your machine">
          <ul className="flex flex-col gap-1.5">
            {ports.map((port) => (
              <li
                key={`${port.name} ${port.address}`}
                className="flex flex-wrap items-center justify-between gap-x-3 text-sm"
              >
                <span>
                  {oneLine(port.name)} <span className="text-muted">{port.port} inside</span>
                </span>
                <Command text={safe(port.address)} />
              </li>
            ))}
          </ul>
        </Section>
      )}
      <Section title="From a terminal of yours">
        <ul className="flex flex-col items-start gap-1.5">
          <li className="max-w-full">
            <Command text={`offshoot shell ${task.name}`} />
          </li>
          <li className="max-w-full">
            <Command text={`offshoot exec ${task.name} -- git status`} />
          </li>
          {apps[0] && (
            <>
              <li className="max-w-full">
                <Command text={`offshoot open ${task.name} ${oneLine(apps[0].name)}`} />
              </li>
              <li className="max-w-full">
                <Command text={`offshoot app logs ${task.name} ${oneLine(apps[0].name)} -f`} />
              </li>
            </>
          )}
        </ul>
      </Section>
    </>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="border-b border-line px-4 py-3 last:border-0">
      <h2 className="mb-2 text-xs font-medium text-muted">{title}</h2>
      {children}
    </section>
  );
}

function Nothing({ children }: { children: ReactNode }) {
  return <p className="text-sm text-muted">{children}</p>;
}

/** A state: a shape and a word. */
function Standing({
  word,
  how,
  since,
}: {
  word: string;
  how: 'well' | 'between' | 'ill' | 'off';
  since?: number | null | undefined;
}) {
  const tone = { well: 'text-text', between: 'text-muted', ill: 'text-danger', off: 'text-muted' }[how];
  return (
    <span className={`inline-flex items-center gap-1.5 text-sm ${tone}`}>
      <svg
        viewBox="0 0 14 14"
        aria-hidden
        className="size-2.5"
        fill="none"
        stroke="currentColor"
        strokeWidth="2.2"
      >
        {how === 'well' && <circle cx="7" cy="7" r="5" fill="currentColor" />}
        {how === 'between' && <circle cx="7" cy="7" r="5" strokeDasharray="2.4 2.4" />}
        {how === 'ill' && <path d="m2 2 10 10m0-10L2 12" />}
        {how === 'off' && <circle cx="7" cy="7" r="5" />}
      </svg>
      {word}
      {since != null && (
        <span className="text-muted">
          <Elapsed since={since} />
        </span>
      )}
    </span>
  );
}

/** Does something to an app or a service, and shows what is being done. */
function useChange(act: (change: Change) => Promise<unknown>, name: string) {
  const [busy, setBusy] = useState<Change>();
  const queries = useQueryClient();
  const change = async (change: Change) => {
    setBusy(change);
    try {
      await act(change);
    } catch (error) {
      complain(Problem.of(error), `${oneLine(name)}: ${change} did not work`);
    }
    live.reread();
    await queries.invalidateQueries({ queryKey: ['services'] });
    setBusy(undefined);
  };
  return { busy, change };
}

const doing: Record<Change, string> = { start: 'Starting…', stop: 'Stopping…', restart: 'Restarting…' };

function App({ app, task, onLog }: { app: Schemas['AppView']; task: string; onLog: (tab: Tab) => void }) {
  const { busy, change } = useChange(
    (change) =>
      request('post', '/v1/tasks/{task}/apps/{app}', { path: { task, app: app.name }, body: { change } }),
    app.name,
  );
  const name = oneLine(app.name);
  const runs = app.state === 'running';
  const url = app.url ?? undefined;
  return (
    <li aria-label={`App ${name}`}>
      <div className="flex items-center justify-between gap-2">
        <span className="text-sm font-medium">{name}</span>
        {busy ? (
          <Standing word={doing[busy]} how="between" />
        ) : (
          <Standing
            word={app.since == null ? 'not started' : app.state}
            how={runs ? 'well' : app.state === 'interrupted' ? 'between' : 'off'}
            since={app.since}
          />
        )}
      </div>
      {app.reason != null && !runs && <p className="text-xs text-muted">{oneLine(app.reason)}</p>}
      {url !== undefined && (
        <p className="truncate text-xs">
          <a
            href={url}
            target="_blank"
            rel="noopener noreferrer"
            className="text-accent underline decoration-accent/40 underline-offset-2 hover:decoration-accent"
          >
            {oneLine(url.replace(/^http:\/\/|\/$/g, ''))}
          </a>
        </p>
      )}
      <div className="mt-1 -ml-2.5 flex flex-wrap gap-0.5">
        {url !== undefined && (
          <a href={url} target="_blank" rel="noopener noreferrer" className={buttonClass('quiet')}>
            Open
          </a>
        )}
        <Button
          look="quiet"
          onClick={() => {
            onLog({ id: `log app ${app.name}`, title: `${app.name} log`, is: 'app log' });
          }}
        >
          Log
        </Button>
        {runs ? (
          <>
            <Button look="quiet" disabled={busy !== undefined} onClick={() => void change('restart')}>
              Restart
            </Button>
            <Button look="quiet" disabled={busy !== undefined} onClick={() => void change('stop')}>
              Stop
            </Button>
          </>
        ) : (
          <Button look="quiet" disabled={busy !== undefined} onClick={() => void change('start')}>
            Start
          </Button>
        )}
      </div>
    </li>
  );
}

function useServices({ task }: TaskView) {
  const has = (task.environment?.services ?? []).length > 0;
  return useQuery({
    queryKey: ['services', task.id],
    queryFn: ({ signal }) => request('get', '/v1/tasks/{task}/services', { path: { task: task.id }, signal }),
    refetchInterval: 3000,
    enabled: has,
  });
}

const health: Record<Service['state'], 'well' | 'between' | 'ill' | 'off'> = {
  waiting: 'between',
  starting: 'between',
  ready: 'well',
  unhealthy: 'ill',
  completed: 'off',
  stopped: 'off',
  failed: 'ill',
};

function ServiceRow({ service, task, onLog }: { service: Service; task: string; onLog: (tab: Tab) => void }) {
  const { busy, change } = useChange(
    (change) =>
      request('post', '/v1/tasks/{task}/services/{service}', {
        path: { task, service: service.name },
        body: { change },
      }),
    service.name,
  );
  const name = oneLine(service.name);
  const up = service.state === 'ready' || service.state === 'unhealthy' || service.state === 'starting';
  const facts = [
    `${oneLine(service.address)}${service.ports.length > 0 ? `:${service.ports.join(', ')}` : ''}`,
    ...(service.memory_bytes == null ? [] : [bytes(service.memory_bytes)]),
    ...(service.restarts > 0 ? [`started again ${service.restarts}×`] : []),
  ];
  return (
    <li aria-label={`Service ${name}`}>
      <div className="flex items-center justify-between gap-2">
        <span className="text-sm font-medium">{name}</span>
        {busy ? (
          <Standing word={doing[busy]} how="between" />
        ) : (
          <Standing word={service.state} how={health[service.state]} />
        )}
      </div>
      <p className="text-xs text-muted">{facts.join(' · ')}</p>
      {service.health != null && (
        <p className="text-xs text-muted">
          health check {service.health.passed ? 'passed' : 'failed'} at <Moment at={service.health.at} />
        </p>
      )}
      {service.reason != null && <p className="text-xs text-danger">{oneLine(service.reason)}</p>}
      <div className="mt-1 -ml-2.5 flex flex-wrap items-center gap-0.5">
        <Button
          look="quiet"
          onClick={() => {
            onLog({ id: `log service ${service.name}`, title: `${service.name} log`, is: 'service log' });
          }}
        >
          Log
        </Button>
        <Button
          look="quiet"
          disabled={busy !== undefined}
          onClick={() => void change(up ? 'restart' : 'start')}
        >
          {up ? 'Restart' : 'Start'}
        </Button>
        {up && (
          <Menu
            trigger={
              <Button look="quiet" aria-label={`More about ${name}`}>
                ⋯
              </Button>
            }
            items={[{ title: 'Stop', run: () => void change('stop') }]}
          />
        )}
      </div>
    </li>
  );
}
