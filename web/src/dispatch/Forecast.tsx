/** What will happen, before it happens: which start at once, which wait and for what, what each is counted with. */
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { Problem, request, type Schemas } from '../api';
import { capacityQuery } from '../queries';
import { bytes, count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { baseName, oneLine } from '../ui/text';

/** A list longer than this is told by its number. */
const LISTED = 12;

/** It is asked when the person pauses. */
const PAUSE_MS = 400;

export function Forecast({
  path,
  prompts,
  many,
  ask,
}: {
  path: string;
  prompts: readonly string[];
  many: boolean;
  /** The request for the first of them. */
  ask: Schemas['TaskParams'] | undefined;
}) {
  const asked = usePaused(ask && path !== '' ? JSON.stringify(ask) : '');
  const plan = useQuery({
    queryKey: ['plan', asked],
    queryFn: ({ signal }) =>
      request('post', '/v1/plan', { body: JSON.parse(asked) as Schemas['TaskParams'], signal }),
    enabled: asked !== '',
    placeholderData: (before) => before,
  });
  const capacity = useQuery({
    ...capacityQuery(path === '' ? undefined : path),
    placeholderData: (before) => before,
  });
  const number = prompts.length;
  const now = Math.min(number, capacity.data?.room_for ?? 0);
  return (
    <section
      aria-label="What will happen"
      className="flex flex-col gap-3 rounded-lg bg-surface p-4 text-sm ring-1 ring-line ring-inset"
    >
      <h2 className="font-medium">What will happen</h2>
      {capacity.error && Problem.of(capacity.error).unreachable && (
        <p className="text-muted">The daemon does not answer.</p>
      )}
      {capacity.error && !Problem.of(capacity.error).unreachable && <ProblemBox error={capacity.error} />}
      {!capacity.error && number > 0 && plan.error && !Problem.of(plan.error).unreachable && (
        <ProblemBox error={plan.error} />
      )}
      {!capacity.error && number === 0 && (
        <p className="text-muted">Say what is to be done, and it is told here what comes of it.</p>
      )}
      {!capacity.error && capacity.data && number > 0 && (
        <>
          <p>
            {number === 1 ? (
              now === 1 ? (
                'Starts at once.'
              ) : (
                <>Waits for {oneLine(capacity.data.then_waits_for)}.</>
              )
            ) : (
              <>
                {count(number, 'task')}, {count(number, 'environment')}, {count(number, 'branch', 'branches')}
                :{' '}
                {now === number
                  ? 'all start at once.'
                  : now === 0
                    ? `all wait for ${oneLine(capacity.data.then_waits_for)}.`
                    : `${now} start at once, ${number - now} wait for ${oneLine(capacity.data.then_waits_for)}.`}
              </>
            )}
          </p>
          <dl className="grid grid-cols-[1fr_max-content] gap-x-4 gap-y-1 text-muted">
            <dt>Each is counted with</dt>
            <dd className="text-text">{bytes(capacity.data.each_bytes)} memory</dd>
            <dt>Runs now</dt>
            <dd className="text-text">
              {capacity.data.active_runs} of {capacity.data.max_runs}
            </dd>
            {capacity.data.queued_runs > 0 && (
              <>
                <dt>Wait already</dt>
                <dd className="text-text">{capacity.data.queued_runs}</dd>
              </>
            )}
            <dt>Disk left</dt>
            <dd className="text-text">{bytes(capacity.data.free_disk_bytes)}</dd>
          </dl>
        </>
      )}
      {number > 0 && !plan.error && plan.data && <Plan plan={plan.data} many={number > 1} />}
      {many && number > 1 && (
        <ol className="flex list-decimal flex-col gap-0.5 pl-5 text-muted">
          {prompts.slice(0, LISTED).map((prompt, index) => (
            <li key={index}>
              <span className="line-clamp-1">{oneLine(prompt)}</span>
            </li>
          ))}
          {number > LISTED && <li className="list-none">and {number - LISTED} more</li>}
        </ol>
      )}
    </section>
  );
}

function Plan({ plan, many }: { plan: Schemas['PlanView']; many: boolean }) {
  const facts: [string, string][] = [
    ['Repository', baseName(plan.root)],
    ['Starts from', `${plan.base.slice(0, 10)}${plan.target == null ? '' : ` of ${oneLine(plan.target)}`}`],
    ...(many ? [] : ([['Branch', oneLine(plan.branch)]] as [string, string][])),
    ['Agent', oneLine(plan.agent ?? 'none: by hand')],
    ['Check', oneLine(plan.check ?? 'none')],
    ['Isolation', plan.isolation],
    ...(plan.services.length > 0
      ? ([['Services', plan.services.map(oneLine).join(', ')]] as [string, string][])
      : []),
    ...(plan.setups.length > 0
      ? ([['Setup', plan.setups.map(oneLine).join(', ')]] as [string, string][])
      : []),
    ['May use', `${bytes(plan.limits.memory_bytes)} memory, ${bytes(plan.limits.disk_bytes)} disk`],
    ['Files', plan.prepared ? 'laid out already' : 'are laid out first'],
  ];
  return (
    <>
      <dl className="flex flex-col gap-1 border-t border-line pt-3">
        {facts.map(([name, value]) => (
          <div key={name} className="flex justify-between gap-4">
            <dt className="shrink-0 text-muted">{name}</dt>
            <dd className="min-w-0 text-right">{value}</dd>
          </div>
        ))}
      </dl>
      {plan.notices.map((notice) => (
        <p key={notice} className="rounded-md bg-hover px-2.5 py-1.5 text-xs">
          {oneLine(notice)}
        </p>
      ))}
    </>
  );
}

function usePaused(value: string): string {
  const [paused, setPaused] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => {
      setPaused(value);
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [value]);
  return paused;
}
