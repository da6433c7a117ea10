/** All tasks, sorted by who waits for the person. */
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { startTransition, useCallback, useDeferredValue, useEffect, useMemo, useRef, useState } from 'react';
import type { TaskView } from '../api';
import { live, useConnection, useTasks } from '../live';
import { ask, stop } from '../task/actions';
import { canDiscard, canFollowUp, canLand, canStop } from '../task/what';
import { Button, buttonClass } from '../ui/Button';
import { Command } from '../ui/Command';
import { useCommands } from '../ui/commands';
import { Empty } from '../ui/Empty';
import { inputClass } from '../ui/Field';
import { count } from '../ui/figures';
import { Keys } from '../ui/Keys';
import { StateShape } from '../ui/State';
import { useRemembered } from '../ui/storage';
import { Elapsed } from '../ui/Time';
import { arrange, matches, type Section } from './arrange';
import { Row } from './Row';
import { useHeld } from './useHeld';

const NONE: readonly TaskView[] = [];
const LANDED = 'Landed';
/** Rows of a lane that are drawn at once: more than fit a screen. */
const FIRST = 30;

export default function Board() {
  const { q = '', group } = useSearch({ from: '/shell/' });
  const by = group ?? 'state';
  const navigate = useNavigate({ from: '/' });
  // Deferred: a flood of news is drawn in slices that do not hold up what the person does.
  const all = useDeferredValue(useTasks());
  const there = all !== undefined;
  const tasks = useMemo(() => all?.filter(({ task }) => task.state !== 'discarded') ?? NONE, [all]);
  const query = useDeferredValue(q);
  const list = useRef<HTMLDivElement>(null);
  const filter = useRef<HTMLInputElement>(null);

  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [selecting, setSelecting] = useState(false);
  const [folded, setFolded] = useRemembered<readonly string[]>('board.folded', [LANDED], isStrings);

  const next = useMemo(
    () => arrange(query === '' ? tasks : tasks.filter((view) => matches(view, query)), by),
    [tasks, query, by],
  );
  const { sections, waiting, release } = useHeld(list, next, `${by} ${query}`, selected.size > 0);
  const open = (section: Section) => query !== '' || !folded.includes(section.key);
  const visible = sections.filter(open).flatMap((section) => section.tasks);
  // What fits the screen is drawn first, the rest right after it.
  const [room, setRoom] = useState(FIRST);
  useEffect(() => {
    if (there)
      startTransition(() => {
        setRoom(Infinity);
      });
  }, [there]);
  const chosen = tasks.filter(({ task }) => selected.has(task.id));

  const landedOpen = !folded.includes(LANDED);
  useEffect(() => {
    if (landedOpen) live.includeOver();
  }, [landedOpen]);

  useEffect(() => {
    if (there) performance.mark('board');
  }, [there]);

  const order = useRef<readonly TaskView[]>(visible);
  const last = useRef<string>(undefined);
  useEffect(() => {
    order.current = visible;
  });
  const onSelect = useCallback((task: string, range: boolean) => {
    const ids = order.current.map((view) => view.task.id);
    const [from, to] = [ids.indexOf(last.current ?? ''), ids.indexOf(task)];
    last.current = task;
    setSelected((before) => {
      const after = new Set(before);
      if (range && from >= 0)
        for (const id of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) after.add(id);
      else if (!after.delete(task)) after.add(task);
      return after;
    });
  }, []);
  const clear = () => {
    setSelected(new Set());
    setSelecting(false);
  };
  const search = (change: { q?: string; group?: 'project' | undefined }) =>
    void navigate({ search: (before) => ({ ...before, ...change }), replace: true });

  /** The selected ones, else the one that has the focus. */
  const meant = (): readonly TaskView[] => {
    if (chosen.length > 0) return chosen;
    const id = focusedRow();
    return tasks.filter(({ task }) => task.id === id);
  };
  const step = (by: 1 | -1) => {
    const rows = [...(list.current?.querySelectorAll<HTMLElement>('[data-open]') ?? [])];
    const at = rows.findIndex((row) => row === document.activeElement);
    const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by];
    row?.focus();
    row?.closest('li')?.scrollIntoView({ block: 'nearest' });
  };
  const actions = {
    stop: () => {
      void stop(meant().filter(canStop)).then(clear);
    },
    followUp: () => {
      ask('follow up', meant().filter(canFollowUp), clear);
    },
    land: () => {
      ask('land', meant().filter(canLand), clear);
    },
    discard: () => {
      ask('discard', meant().filter(canDiscard), clear);
    },
  };
  const groupBy = () => {
    search({ group: by === 'project' ? undefined : 'project' });
  };
  useCommands([
    {
      title: 'Next task',
      group: 'Board',
      keys: 'j',
      also: ['arrowdown'],
      keyOnly: true,
      run: () => {
        step(1);
      },
    },
    {
      title: 'Previous task',
      group: 'Board',
      keys: 'k',
      also: ['arrowup'],
      keyOnly: true,
      run: () => {
        step(-1);
      },
    },
    {
      title: 'Open',
      group: 'Board',
      keys: 'enter',
      keyOnly: true,
      run: () => {
        step(1);
      },
    },
    {
      title: 'Select',
      group: 'Board',
      keys: 'x',
      also: ['shift+x'],
      keyOnly: true,
      run: () => {
        const id = focusedRow();
        if (id !== undefined) onSelect(id, false);
      },
    },
    {
      title: 'Select nothing',
      group: 'Board',
      keys: 'escape',
      keyOnly: true,
      run: clear,
    },
    {
      title: 'Select all that is shown',
      group: 'Board',
      keys: 'mod+a',
      run: () => {
        setSelected(new Set(visible.map((view) => view.task.id)));
      },
    },
    { title: 'Stop', group: 'Board', keys: 's', keyOnly: true, run: actions.stop },
    { title: 'Follow up', group: 'Board', keys: 'f', keyOnly: true, run: actions.followUp },
    { title: 'Land', group: 'Board', keys: 'l', keyOnly: true, run: actions.land },
    { title: 'Discard', group: 'Board', keys: 'd', keyOnly: true, run: actions.discard },
    { title: 'Filter', group: 'Board', keys: '/', run: () => filter.current?.select() },
    {
      title: by === 'project' ? 'Group by state' : 'Group by project',
      group: 'Board',
      keys: 'p',
      run: groupBy,
    },
    {
      title: 'Put tasks in order',
      group: 'Board',
      keys: 'r',
      run: () => {
        clear();
        release();
      },
    },
  ]);

  const needs = tasks.filter(({ task }) => task.state === 'needs_attention').length;
  return (
    <div className="flex min-h-full flex-col">
      <h1 className="sr-only">Board</h1>
      <div className="sticky top-0 z-20 flex h-13 items-center gap-2 border-b border-line bg-bg px-3 md:h-12 md:px-4">
        <div className="relative min-w-0 grow md:max-w-sm">
          <input
            ref={filter}
            type="search"
            value={q}
            aria-label="Filter tasks"
            placeholder="Filter: words, is:failed, agent:codex, project:…"
            className={inputClass}
            onChange={(event) => {
              search({ q: event.target.value });
            }}
            onKeyDown={(event) => {
              if (event.key === 'Escape') {
                search({ q: '' });
                event.currentTarget.blur();
              } else if (event.key === 'Enter' || event.key === 'ArrowDown') {
                event.preventDefault();
                event.currentTarget.blur();
                step(1);
              }
            }}
          />
          {q === '' && (
            <Keys keys="/" className="pointer-events-none absolute top-1.5 right-2 text-muted phone:hidden" />
          )}
        </div>
        <Button
          look="quiet"
          aria-pressed={by === 'project'}
          onClick={groupBy}
          className="aria-pressed:bg-chosen aria-pressed:text-text phone:hidden"
        >
          By project
        </Button>
        <Button
          look="quiet"
          aria-pressed={selecting}
          onClick={() => {
            if (selecting) clear();
            else setSelecting(true);
          }}
          className="aria-pressed:bg-chosen aria-pressed:text-text"
        >
          Select
        </Button>
        <p role="status" className="ml-auto text-sm text-muted phone:sr-only">
          {waiting > 0 ? (
            <button
              type="button"
              className="hover:text-text hover:underline"
              onClick={() => {
                clear();
                release();
              }}
            >
              {waiting === 1 ? '1 task has' : `${waiting} tasks have`} moved on; put in order
            </button>
          ) : (
            all && (
              <>
                {count(visible.length, 'task')}
                {needs > 0 && (
                  <span className="text-accent">, {needs === 1 ? '1 needs' : `${needs} need`} you</span>
                )}
              </>
            )
          )}
        </p>
      </div>
      <div ref={list} className="grow pb-24">
        {sections.map((section) => (
          <Lane
            key={section.key}
            section={section}
            open={open(section)}
            onFold={() => {
              setFolded(
                folded.includes(section.key)
                  ? folded.filter((key) => key !== section.key)
                  : [...folded, section.key],
              );
            }}
          >
            {section.tasks.slice(0, room).map((view) => (
              <Row
                key={view.task.id}
                view={view}
                selected={selected.has(view.task.id)}
                selecting={selecting || selected.size > 0}
                under={by === 'state' && section.states.includes(view.task.state) ? 'state' : 'project'}
                onSelect={onSelect}
              />
            ))}
          </Lane>
        ))}
        {all &&
          by === 'state' &&
          query === '' &&
          !landedOpen &&
          !sections.some((section) => section.key === LANDED) &&
          tasks.length > 0 && (
            <Lane
              section={{ key: LANDED, title: LANDED, states: ['landed'], tasks: NONE }}
              open={false}
              onFold={() => {
                setFolded(folded.filter((key) => key !== LANDED));
              }}
            />
          )}
        {!all && <Reading />}
        {all && tasks.length === 0 && <NoTasks />}
        {all && tasks.length > 0 && visible.length === 0 && query !== '' && (
          <Empty title={`No task is found by “${query}”`}>
            <Button
              onClick={() => {
                search({ q: '' });
              }}
            >
              Show all {tasks.length}
            </Button>
          </Empty>
        )}
      </div>
      {chosen.length > 0 && (
        <div
          role="toolbar"
          aria-label="Selected tasks"
          className="sticky bottom-3 z-20 mx-auto flex max-w-full fade-in flex-wrap items-center justify-center gap-1.5 rounded-lg bg-raised p-2 text-sm shadow-raised"
        >
          <span className="px-2">{chosen.length} selected</span>
          <Button disabled={!chosen.some(canStop)} onClick={actions.stop}>
            Stop
          </Button>
          <Button disabled={!chosen.some(canFollowUp)} onClick={actions.followUp}>
            Follow up
          </Button>
          <Button disabled={!chosen.some(canLand)} onClick={actions.land}>
            Land
          </Button>
          <Button disabled={!chosen.some(canDiscard)} onClick={actions.discard}>
            Discard
          </Button>
          <Button look="quiet" onClick={clear} keys="escape">
            Clear
          </Button>
        </div>
      )}
    </div>
  );
}

function Lane({
  section,
  open,
  onFold,
  children,
}: {
  section: Section;
  open: boolean;
  onFold: () => void;
  children?: React.ReactNode;
}) {
  return (
    <section aria-label={section.title}>
      <h2 className="sticky top-[3.25rem] z-10 bg-bg md:top-12">
        <button
          type="button"
          aria-expanded={open}
          onClick={onFold}
          className="flex h-8 w-full items-center gap-2 border-b border-line/60 px-2 text-left text-sm md:px-4 touch:h-11"
        >
          <span className="grid w-5 place-items-center">
            {section.states[0] ? <StateShape state={section.states[0]} /> : <Folder />}
          </span>
          <span className="font-medium">{section.title}</span>
          {(open || section.tasks.length > 0) && <span className="text-muted">{section.tasks.length}</span>}
          <svg viewBox="0 0 16 16" aria-hidden className={`size-3 text-muted ${open ? '' : '-rotate-90'}`}>
            <path d="m4 6 4 4 4-4" fill="none" stroke="currentColor" strokeWidth="1.75" />
          </svg>
        </button>
      </h2>
      {open && <ul>{children}</ul>}
    </section>
  );
}

function Folder() {
  return (
    <svg viewBox="0 0 16 16" aria-hidden className="size-3.5 text-muted">
      <path
        d="M1.5 3.5h4l1.5 2h7.5v8h-13z"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
        strokeLinejoin="round"
      />
    </svg>
  );
}

function Reading() {
  const connection = useConnection();
  if (connection.is !== 'reconnecting') {
    return (
      <p className="animate-[fade-in_200ms_500ms_backwards] p-16 text-center text-sm text-muted">
        Reading the tasks…
      </p>
    );
  }
  return (
    <Empty title="The daemon does not answer">
      <p>
        Since <Elapsed since={connection.since} />. It is tried again all the time; this starts it:
      </p>
      <Command text="offshoot daemon start" />
    </Empty>
  );
}

function NoTasks() {
  return (
    <Empty title="No agent has anything to do">
      <p>Each task gets an environment of its own: nothing here can get into the way of anything else.</p>
      <Link to="/new" className={buttonClass('main')}>
        New task
        <Keys keys="c" />
      </Link>
      <p>Or, in a repository:</p>
      <Command text={'offshoot run "what is to be done"'} />
    </Empty>
  );
}

function focusedRow(): string | undefined {
  return document.activeElement?.closest<HTMLElement>('[data-row]')?.dataset['row'];
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
