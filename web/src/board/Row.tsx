/** One task on the board: what it is called, what it is at, and its figures, each at its place. */
import { Link } from '@tanstack/react-router';
import { memo } from 'react';
import type { TaskView } from '../api';
import { check, cost, now, project, since } from '../task/what';
import { bytes, count, dollars } from '../ui/figures';
import { Lines } from '../ui/Lines';
import { StateShape, words } from '../ui/State';
import { oneLine } from '../ui/text';
import { Elapsed } from '../ui/Time';

export interface RowProps {
  view: TaskView;
  selected: boolean;
  /** Selecting is what is being done: the box is always there. */
  selecting: boolean;
  /** What the section says already. */
  under: 'project' | 'state';
  onSelect: (task: string, range: boolean) => void;
}

export const Row = memo(function Row({ view, selected, selecting, under, onSelect }: RowProps) {
  const { task } = view;
  const name = oneLine(task.name);
  const said = now(view);
  const waits = task.state === 'needs_attention' || task.state === 'failed';
  const commit = task.changes.latest_commit;
  const previews = (view.apps ?? []).filter((app) => app.url != null && app.state === 'running');
  return (
    <li
      data-row={task.id}
      className={`group/row relative grid grid-cols-[1.75rem_minmax(0,1fr)_auto] items-start border-b border-line/60 px-2 py-2 [contain-intrinsic-size:auto_3.5rem] [content-visibility:auto] md:grid-cols-[1.75rem_minmax(0,1fr)_5.5rem_8.5rem_4.5rem_4.75rem_4.5rem_5.5rem] md:gap-x-2 md:px-4 ${selected ? 'bg-chosen' : 'bg-surface hover:bg-hover has-[a[data-open]:focus-visible]:bg-hover'}`}
    >
      <span className="relative grid h-5 w-5 place-items-center">
        <StateShape
          state={task.state}
          className={
            selected || selecting ? 'invisible' : 'group-hover/row:invisible touch:group-hover/row:visible'
          }
        />
        <input
          type="checkbox"
          aria-label={`Select ${name}`}
          tabIndex={-1}
          checked={selected}
          // The click, not the change: it knows of Shift.
          onClick={(event) => {
            onSelect(task.id, event.shiftKey);
          }}
          onChange={() => undefined}
          className={`absolute z-10 size-4 accent-accent after:absolute after:-inset-3 after:content-[''] ${selected || selecting ? '' : 'opacity-0 group-hover/row:opacity-100 focus-visible:opacity-100 touch:hidden'}`}
        />
      </span>
      <div className="min-w-0">
        <div className="flex min-w-0 items-baseline gap-2">
          <Link
            to="/tasks/$task"
            params={{ task: task.id }}
            data-open
            className="truncate font-medium outline-none before:absolute before:inset-0 before:content-[''] focus-visible:before:outline-2 focus-visible:before:-outline-offset-2 focus-visible:before:outline-accent"
          >
            {name}
            <span className="sr-only">, {words[task.state]}</span>
          </Link>
          <span className="shrink-0 text-xs text-muted phone:max-w-28 phone:truncate">
            {under === 'state' ? project(view) : words[task.state]}
          </span>
        </div>
        <div className="flex min-w-0 items-baseline gap-3 text-sm text-muted">
          <span
            className={`min-w-0 shrink truncate phone:line-clamp-2 phone:whitespace-normal ${waits ? 'text-text' : ''}`}
            title={said}
          >
            {said}
          </span>
          {commit != null && (
            <span
              className="max-w-[45%] min-w-0 shrink-[3] truncate phone:hidden"
              title={`Latest commit, on ${oneLine(task.branch)}`}
            >
              <Commit /> {oneLine(commit)}
            </span>
          )}
          {previews.map((app) => (
            <a
              key={app.name}
              href={app.url ?? undefined}
              target="_blank"
              rel="noreferrer noopener"
              className="relative z-10 shrink-0 text-accent hover:underline phone:hidden"
            >
              {oneLine(app.name)} ↗
            </a>
          ))}
        </div>
        <div className="flex flex-wrap gap-x-3 text-xs text-muted md:hidden">
          <span>{oneLine(task.agent ?? 'by hand')}</span>
          <Changes view={view} />
          <Check view={view} />
          {view.memory_bytes != null && <span data-memory>{bytes(view.memory_bytes)}</span>}
        </div>
      </div>
      <span className="truncate pt-px text-sm text-muted phone:hidden" title="Agent">
        {oneLine(task.agent ?? 'by hand')}
      </span>
      <span className="pt-px text-right text-sm phone:hidden" title="Changed against its base">
        <Changes view={view} />
      </span>
      <span className="pt-px text-sm phone:hidden" title="Check">
        <Check view={view} />
      </span>
      <span
        className="pt-px text-right text-sm text-muted phone:hidden"
        title="Memory in use now"
        data-memory
      >
        {view.memory_bytes != null && bytes(view.memory_bytes)}
      </span>
      <span className="pt-px text-right text-sm text-muted phone:hidden" title="Cost, as the agent tells">
        <Cost view={view} />
      </span>
      <span className="pt-px text-right text-sm whitespace-nowrap text-muted">
        <Elapsed since={since(view)} />
      </span>
    </li>
  );
});

function Changes({ view }: { view: TaskView }) {
  const { changes } = view.task;
  if (changes.files === 0) return null;
  return (
    <span className="whitespace-nowrap text-muted">
      {count(changes.files, 'file')} <Lines of={changes} />
    </span>
  );
}

function Check({ view }: { view: TaskView }) {
  const outcome = check(view);
  if (outcome === undefined) return null;
  return (
    <span className={outcome === 'failed' ? 'text-danger' : 'text-muted'}>
      {outcome === 'passed' ? '✓ check' : outcome === 'failed' ? '✗ check' : '… check'}
      <span className="sr-only"> {outcome}</span>
    </span>
  );
}

function Cost({ view }: { view: TaskView }) {
  const spent = cost(view);
  return spent === undefined ? null : dollars(spent);
}

function Commit() {
  return (
    <svg viewBox="0 0 16 16" aria-label="Latest commit:" role="img" className="inline size-3 align-[-0.1em]">
      <path d="M1 8h4m6 0h4" stroke="currentColor" strokeWidth="1.5" />
      <circle cx="8" cy="8" r="3" fill="none" stroke="currentColor" strokeWidth="1.5" />
    </svg>
  );
}
