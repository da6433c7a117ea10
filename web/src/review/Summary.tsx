/** What one wants to know before one reads: what was asked, whether checks passed, what stands out, whether it lands. */
import { useQuery } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import type { RunRecord, Schemas } from '../api';
import { useThisTask } from '../task/context';
import { canLand } from '../task/what';
import { Button } from '../ui/Button';
import { Dialog } from '../ui/Dialog';
import { count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine, safe } from '../ui/text';
import type { What } from './anchor';
import { checkQuery, landingQuery } from './query';
import type { FileEntry } from './rows';

const line = {
  fill: 'none',
  stroke: 'currentColor',
  strokeWidth: 1.75,
  strokeLinecap: 'round',
  strokeLinejoin: 'round',
} as const;
const shapes = {
  good: <path d="m3 8.5 3.2 3.2L13 4.6" {...line} />,
  bad: <path d="m4 4 8 8m0-8-8 8" {...line} />,
  look: <path d="M3 1.5v13M3 2.5h9.5L10 6l2.5 3.5H3" {...line} />,
  plain: <circle cx="8" cy="8" r="2" fill="currentColor" />,
};

function Fact({ is, children }: { is: keyof typeof shapes; children: ReactNode }) {
  return (
    <li className="flex min-h-6 items-start gap-2">
      <svg
        viewBox="0 0 16 16"
        aria-hidden
        className={`mt-1 size-3.5 shrink-0 ${is === 'bad' || is === 'look' ? 'text-danger' : 'text-muted'}`}
      >
        {shapes[is]}
      </svg>
      <span className="min-w-0">{children}</span>
    </li>
  );
}

// A thumb's room around it, without moving the lines apart.
const linkClass =
  "relative text-accent underline decoration-transparent underline-offset-2 hover:decoration-current touch:after:absolute touch:after:-inset-x-2 touch:after:-inset-y-3 touch:after:content-['']";

export function Summary({
  diff,
  files,
  what,
  onFlagged,
  onLand,
}: {
  diff: Schemas['DiffView'];
  files: readonly FileEntry[];
  what: What;
  onFlagged: () => void;
  onLand: () => void;
}) {
  const view = useThisTask();
  const { task } = view;
  const [log, setLog] = useState<RunRecord>();
  const landing = useQuery({ ...landingQuery(view, false), enabled: canLand(view) && files.length > 0 });
  const checked = task.runs.findLast(
    (run) => run.check != null && (run.check_code != null || run.state === 'checking'),
  );
  const outside = files.filter(({ file }) => file.outside_scope === true).length;
  const runs = files.filter(({ file }) => (file.runs_on_host ?? []).length > 0).length;
  if (what.is === 'commit') {
    const commit = diff.commits.find((one) => one.commit === what.commit) ?? diff.commits[0];
    return (
      <header className="px-4 pt-4 pb-3 md:px-0">
        <h2 className="font-medium">{oneLine(commit?.subject ?? what.commit)}</h2>
        <p className="text-sm text-muted">
          {commit && `${oneLine(commit.author)}, `}
          {commit && new Date(commit.at).toLocaleString()}{' '}
          <code className="font-mono text-xs">{what.commit.slice(0, 12)}</code>
        </p>
      </header>
    );
  }
  if (what.is === 'step') {
    const step = task.checkpoints.find((one) => one.number === what.step);
    return (
      <header className="px-4 pt-4 pb-3 md:px-0">
        <h2 className="font-medium">
          Step {what.step}: {oneLine(step?.title ?? '')}
        </h2>
        <p className="text-sm text-muted">
          What this step changed. Comments are made on the whole, or on commits.
        </p>
      </header>
    );
  }
  return (
    <header className="px-4 pt-3 pb-3 md:px-0">
      <ul className="flex flex-col gap-0.5 text-sm">
        {checked && (
          <Fact is={checked.check_code == null ? 'plain' : checked.check_code === 0 ? 'good' : 'bad'}>
            {checked.check_code == null
              ? 'Checks run: '
              : checked.check_code === 0
                ? 'Checks passed: '
                : `Checks failed with ${checked.check_code}: `}
            <code className="font-mono text-xs">{oneLine(checked.check ?? '')}</code>{' '}
            <button
              type="button"
              className={linkClass}
              onClick={() => {
                setLog(checked);
              }}
            >
              log
            </button>
          </Fact>
        )}
        {runs + outside > 0 && (
          <Fact is="look">
            {runs > 0 && `${count(runs, 'file')} would run on your machine`}
            {runs > 0 && outside > 0 && ', '}
            {outside > 0 &&
              `${count(outside, 'file')} outside of ${(task.scope ?? []).map(oneLine).join(', ')}`}{' '}
            <button type="button" className={linkClass} onClick={onFlagged}>
              look at those
            </button>
          </Fact>
        )}
        {landing.data && <Forecast landing={landing.data} onLand={onLand} />}
        {task.state === 'landed' && (
          <Fact is="good">
            Landed as <code className="font-mono text-xs">{task.landed?.slice(0, 12)}</code>
          </Fact>
        )}
        {diff.truncated && (
          <Fact is="plain">The whole is too long: some files are loaded when you open them.</Fact>
        )}
      </ul>
      {log && (
        <Log
          run={log}
          onClose={() => {
            setLog(undefined);
          }}
        />
      )}
    </header>
  );
}

function Forecast({ landing, onLand }: { landing: Schemas['LandingView']; onLand: () => void }) {
  const conflicts = landing.repositories.reduce((sum, part) => sum + part.conflicts.length, 0);
  const [part] = landing.repositories;
  const target = landing.repositories.map((one) => one.target).filter((one) => one != null);
  const into = [...new Set(target)].map((one) => oneLine(one)).join(', ');
  if (landing.clean && part?.how === 'up_to_date') return null;
  return landing.clean ? (
    <Fact is="good">
      Merges cleanly into {into}
      {part && part.behind > 0 && `, which has ${count(part.behind, 'commit')} since`}
    </Fact>
  ) : (
    <Fact is="bad">
      {conflicts > 0
        ? `Conflicts with ${into} in ${count(conflicts, 'file')}`
        : oneLine(landing.problem?.message ?? 'Cannot land now')}{' '}
      <button type="button" className={linkClass} onClick={onLand}>
        show
      </button>
    </Fact>
  );
}

// eslint-disable-next-line no-control-regex -- what programs say to terminals
const SEQUENCES = /\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g;

/** What the check of a run said. */
function Log({ run, onClose }: { run: RunRecord; onClose: () => void }) {
  const { task } = useThisTask();
  const check = useQuery(checkQuery(task.id, run.number, run.state));
  const text = check.data?.text ?? (check.error ? run.check_output : undefined);
  return (
    <Dialog title={`What the check of run ${run.number} said`} onClose={onClose} wide>
      <code className="font-mono text-sm">{oneLine(run.check ?? '')}</code>
      {check.data?.truncated && <p className="text-sm text-muted">The end of it; there was more before.</p>}
      {text != null ? (
        <pre
          tabIndex={0}
          className="max-h-[50vh] overflow-auto rounded-md bg-hover p-3 font-mono text-xs break-words whitespace-pre-wrap"
        >
          {safe(text.replace(SEQUENCES, '')) || 'Nothing.'}
        </pre>
      ) : check.error ? (
        <ProblemBox error={check.error} />
      ) : (
        <p className="text-sm text-muted">Reading…</p>
      )}
      <div className="flex justify-end">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}
