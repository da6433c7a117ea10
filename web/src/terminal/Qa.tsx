/** QA: look at what was made where it runs. Terminals, apps and services of the task's environment. */
import { useState } from 'react';
import { Problem, request, type TaskView } from '../api';
import { live } from '../live';
import { useThisTask } from '../task/context';
import { Button } from '../ui/Button';
import { Empty } from '../ui/Empty';
import { oneLine } from '../ui/text';
import { Elapsed } from '../ui/Time';
import { complain } from '../ui/toasts';
import { Beside } from './Beside';
import { added, type Tab } from './tabs';
import { Terminals, useTerminals } from './Terminals';

export default function Qa() {
  const view = useThisTask();
  // Terminals belong to one task.
  return <OfTask key={view.task.id} view={view} />;
}

function OfTask({ view }: { view: TaskView }) {
  const { task } = view;
  const terminals = useTerminals(view);
  // On a phone there is room for one of the two.
  const [side, setSide] = useState<'terminals' | 'beside'>('terminals');
  if (task.state === 'landed' || task.state === 'discarded') {
    return (
      <Empty title="There is no environment any more">
        <p>The task is {task.state}; what ran for it is gone.</p>
      </Empty>
    );
  }
  const onLog = (tab: Tab) => {
    terminals.setLayout((now) => added(now, tab, terminals.pane));
    setSide('terminals');
  };
  return (
    <div className="flex h-0 min-h-80 grow flex-col">
      <Environment view={view} />
      <div
        role="group"
        aria-label="Shown"
        className="flex shrink-0 gap-1 border-b border-line px-2 py-1 md:hidden"
      >
        {(['terminals', 'beside'] as const).map((one) => (
          <Button
            key={one}
            look="quiet"
            aria-pressed={side === one}
            className={`grow ${side === one ? 'bg-chosen text-text' : ''}`}
            onClick={() => {
              setSide(one);
            }}
          >
            {one === 'terminals' ? 'Terminals' : 'Apps and services'}
          </Button>
        ))}
      </div>
      <div className="flex min-h-0 grow">
        <div className={`min-h-0 min-w-0 grow ${side === 'terminals' ? 'flex' : 'hidden md:flex'}`}>
          <Terminals view={view} terminals={terminals} inSight={side === 'terminals'} />
        </div>
        <aside
          aria-label="Apps and services"
          tabIndex={0}
          className={`min-h-0 overflow-y-auto border-line focus-visible:-outline-offset-2 md:block md:w-80 md:shrink-0 md:border-l ${side === 'beside' ? 'grow' : 'hidden'}`}
        >
          <Beside view={view} onLog={onLog} />
        </aside>
      </div>
    </div>
  );
}

/** What to know about the environment, if it is not simply there. */
function Environment({ view: { task } }: { view: TaskView }) {
  const [busy, setBusy] = useState(false);
  const wake = async () => {
    setBusy(true);
    try {
      // Whatever is run in it wakes it.
      await request('post', '/v1/tasks/{task}/exec', { path: { task: task.id }, body: { argv: ['true'] } });
    } catch (error) {
      complain(Problem.of(error), 'The environment was not woken');
    }
    live.reread(task.id);
    setBusy(false);
  };
  const said = words(task);
  if (!said) return null;
  return (
    <div
      role="status"
      className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-line bg-accent-soft px-4 py-1.5 text-sm md:px-6"
    >
      <span className="font-medium">{said.title}</span>
      {task.environment && (
        <span className="text-muted">
          <Elapsed since={task.environment.since} />
        </span>
      )}
      <span className="grow text-muted">{said.about}</span>
      {said.can !== undefined && (
        <Button busy={busy && 'A moment…'} onClick={() => void wake()}>
          {said.can}
        </Button>
      )}
    </div>
  );
}

function words(task: TaskView['task']): { title: string; about: string; can?: string } | undefined {
  switch (task.environment?.state) {
    case undefined:
    case 'removed':
      return {
        title: 'No environment yet',
        about:
          task.state === 'queued' ? 'It comes up when the run has its place.' : oneLine(task.reason ?? ''),
      };
    case 'creating':
      return { title: 'Coming up', about: 'Terminals wait until it is there.' };
    case 'suspended':
      return {
        title: 'Asleep',
        about: 'Its processes are frozen because nothing happened. A terminal, an app or a preview wakes it.',
        can: 'Wake it',
      };
    case 'down':
      return {
        title: 'Not running',
        about: 'Its processes are gone, its files are kept. A terminal or an app brings it up again.',
        can: 'Bring it up',
      };
    case 'up':
      return undefined;
  }
}
