/** Terminals and logs of one environment: tabs, in one pane or two beside each other. */
import { lazy, Suspense, useEffect, useRef, useState } from 'react';
import { Problem, request, type TaskView } from '../api';
import { live } from '../live';
import { Button } from '../ui/Button';
import { Command } from '../ui/Command';
import { useCommands } from '../ui/commands';
import { Empty } from '../ui/Empty';
import { Menu } from '../ui/Menu';
import { oneLine } from '../ui/text';
import { complain } from '../ui/toasts';
import type { Connection } from './connection';
import { Log } from './Log';
import { added, keep, load, named, shown, splitUp, without, type Layout, type Tab } from './tabs';

const Screen = lazy(() => import('./Screen'));

/** What a terminal has until it is shown and measured. */
const SIZE = { rows: 24, cols: 80 };

export interface TerminalsHandle {
  layout: Layout;
  open: (tab: Tab) => void;
  start: (what: 'shell' | 'agent') => Promise<void>;
  busy: boolean;
}

/** Which tabs are open; kept for this tab of the browser. */
export function useTerminals({ task }: TaskView) {
  const [layout, setLayout] = useState<Layout>(() => load(task.id));
  const [pane, setPane] = useState(0);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    keep(task.id, layout);
  }, [task.id, layout]);
  const start = async (what: 'shell' | 'agent') => {
    setBusy(true);
    try {
      const path = { task: task.id };
      const { exec } =
        what === 'shell'
          ? await request('post', '/v1/tasks/{task}/exec', { path, body: { argv: [], terminal: SIZE } })
          : await request('post', '/v1/tasks/{task}/attach', { path, body: SIZE });
      setLayout((now) => {
        const title = named(now, what === 'shell' ? 'shell' : oneLine(task.agent ?? 'agent'));
        return added(now, { id: exec, title, is: 'terminal' }, pane);
      });
      live.reread(task.id);
    } catch (error) {
      complain(
        Problem.of(error),
        what === 'shell' ? 'No terminal was opened' : 'The agent was not attached to',
      );
    }
    setBusy(false);
  };
  return { layout, setLayout, pane, setPane, busy, start };
}

export function Terminals({
  view,
  inSight,
  terminals: { layout, setLayout, pane, setPane, busy, start },
}: {
  view: TaskView;
  /** On a phone something else may be shown in its place. */
  inSight: boolean;
  terminals: ReturnType<typeof useTerminals>;
}) {
  const { task } = view;
  const links = useRef(new Map<string, Connection>());
  const box = useRef<HTMLDivElement>(null);
  const close = (tab: Tab) => {
    links.current.get(tab.id)?.hangUp();
    setLayout((now) => without(now, tab.id));
  };
  const two = layout.panes.length === 2;
  useCommands([
    { title: 'New terminal', group: 'Terminals', keys: 't', run: () => void start('shell') },
    ...(layout.tabs.length > 1
      ? [
          {
            title: two ? 'One pane' : 'Two panes',
            group: 'Terminals',
            run: () => {
              setLayout(splitUp);
            },
          },
        ]
      : []),
  ]);
  const opens = [
    ...(task.agent == null
      ? []
      : [
          {
            title: `Terminal of ${oneLine(task.agent)}`,
            run: () => void start('agent'),
          },
        ]),
    ...(layout.tabs.length > 1
      ? [
          {
            title: two ? 'One pane' : 'Two panes',
            run: () => {
              setLayout(splitUp);
            },
          },
        ]
      : []),
  ];
  return (
    <section aria-label="Terminals" className="flex min-h-0 min-w-0 grow flex-col">
      <div className="flex shrink-0 items-center gap-1 border-b border-line px-2 py-1 md:px-4">
        <div
          role="group"
          aria-label="Open terminals and logs"
          className="flex min-w-0 gap-0.5 overflow-x-auto"
        >
          {layout.tabs.map((tab) => {
            const at = layout.panes.indexOf(tab.id);
            return (
              <div
                key={tab.id}
                className={`flex shrink-0 items-center rounded-md text-sm ${at === -1 ? 'text-muted' : 'bg-chosen'}`}
              >
                <button
                  type="button"
                  aria-pressed={at !== -1}
                  className="h-7 pl-2.5 touch:h-11"
                  onClick={() => {
                    setLayout((now) => shown(now, tab.id, at === -1 ? pane : at));
                    if (at !== -1) setPane(at);
                  }}
                >
                  {oneLine(tab.title)}
                  {two && at !== -1 && <span className="text-muted"> {at === 0 ? '◧' : '◨'}</span>}
                </button>
                <button
                  type="button"
                  aria-label={`Close ${oneLine(tab.title)}`}
                  className="grid size-7 place-items-center rounded-md text-muted hover:bg-hover hover:text-text touch:size-11"
                  onClick={() => {
                    close(tab);
                  }}
                >
                  ×
                </button>
              </div>
            );
          })}
        </div>
        <Button look="quiet" keys="t" busy={busy && 'Opening…'} onClick={() => void start('shell')}>
          New terminal
        </Button>
        {opens.length > 0 && (
          <Menu
            trigger={
              <Button look="quiet" aria-label="More terminals">
                ⋯
              </Button>
            }
            items={opens}
          />
        )}
      </div>
      {layout.tabs.length === 0 ? (
        <Empty title="No terminal is open">
          <p>A terminal runs in the task’s environment, beside what the agent made.</p>
          <div className="flex flex-wrap items-center justify-center gap-2">
            <Button look="main" busy={busy && 'Opening…'} onClick={() => void start('shell')}>
              Open a terminal
            </Button>
          </div>
          <p className="text-sm">The same from a terminal of yours:</p>
          <Command text={`offshoot shell ${task.name}`} />
        </Empty>
      ) : (
        <div ref={box} className="flex min-h-0 grow">
          {layout.panes.map((id, index) => (
            <div
              key={index}
              className="relative min-w-0"
              style={{
                flex: two ? `${index === 0 ? layout.split : 100 - layout.split} 1 0%` : '1 1 0%',
                order: index * 2,
              }}
              onPointerDown={() => {
                setPane(index);
              }}
              onFocus={() => {
                setPane(index);
              }}
            >
              {layout.tabs
                .filter((tab) => (id === tab.id ? true : index === 0 && !layout.panes.includes(tab.id)))
                .map((tab) => (
                  <Shown
                    key={tab.id}
                    tab={tab}
                    task={task.id}
                    shown={tab.id === id}
                    inSight={inSight}
                    onReady={(connection) => {
                      if (connection) links.current.set(tab.id, connection);
                      else links.current.delete(tab.id);
                    }}
                    onAgain={() => {
                      setLayout((now) => without(now, tab.id));
                      void start('shell');
                    }}
                  />
                ))}
              {id === undefined && (
                <p className="p-4 text-sm text-muted">Choose what is shown here, or open another terminal.</p>
              )}
            </div>
          ))}
          {two && (
            <Divider
              box={box}
              value={layout.split}
              onChange={(split) => {
                setLayout((now) => ({ ...now, split }));
              }}
            />
          )}
        </div>
      )}
    </section>
  );
}

function Shown({
  tab,
  task,
  shown,
  inSight,
  onReady,
  onAgain,
}: {
  tab: Tab;
  task: string;
  shown: boolean;
  inSight: boolean;
  onReady: (connection: Connection | undefined) => void;
  onAgain: () => void;
}) {
  if (tab.is !== 'terminal')
    return (
      <Log
        task={task}
        of={tab.is === 'app log' ? 'app' : 'service'}
        name={tab.title.replace(/ log$/, '')}
        shown={shown}
      />
    );
  return (
    <Suspense fallback={shown ? <p className="p-4 text-sm text-muted">Opening the terminal…</p> : null}>
      <Screen
        task={task}
        exec={tab.id}
        title={tab.title}
        shown={shown}
        inSight={inSight}
        onReady={onReady}
        onAgain={onAgain}
      />
    </Suspense>
  );
}

/** Between two panes: dragged, or moved with the arrow keys. */
function Divider({
  box,
  value,
  onChange,
}: {
  box: React.RefObject<HTMLDivElement | null>;
  value: number;
  onChange: (split: number) => void;
}) {
  const within = (split: number) => Math.min(85, Math.max(15, Math.round(split)));
  return (
    <div
      role="separator"
      tabIndex={0}
      aria-label="Width of the first pane"
      aria-orientation="vertical"
      aria-valuenow={value}
      aria-valuemin={15}
      aria-valuemax={85}
      className="relative z-10 order-1 w-px shrink-0 cursor-col-resize touch-none bg-line before:absolute before:inset-y-0 before:-left-1.5 before:w-3 hover:bg-accent"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        const at = box.current?.getBoundingClientRect();
        if (!at || !event.currentTarget.hasPointerCapture(event.pointerId)) return;
        onChange(within(((event.clientX - at.left) / at.width) * 100));
      }}
      onKeyDown={(event) => {
        if (event.key === 'ArrowLeft') onChange(within(value - 5));
        else if (event.key === 'ArrowRight') onChange(within(value + 5));
        else return;
        event.preventDefault();
      }}
    />
  );
}
