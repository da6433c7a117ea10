/** Bringing the work in: what would happen is shown before it happens. */
import { useMutation, useQuery } from '@tanstack/react-query';
import { useDeferredValue, useState } from 'react';
import { request, type Schemas, type TaskView } from '../api';
import { live } from '../live';
import { ask } from '../task/actions';
import { Button } from '../ui/Button';
import { Hint } from '../ui/Command';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { Choice, TextArea, TextField } from '../ui/Field';
import { count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine, safe } from '../ui/text';
import { say } from '../ui/toasts';
import { landingQuery } from './query';

const hows: Record<string, string> = {
  up_to_date: 'has all of it already',
  fast_forward: 'is moved forward to it; no commit is made',
  merge: 'gets a merge commit',
  squash: 'gets one commit',
};

export default function Landing({
  view,
  onClose,
  onLanded,
}: {
  view: TaskView;
  onClose: () => void;
  onLanded: (() => void) | undefined;
}) {
  const { task } = view;
  const [squash, setSquash] = useState(false);
  const [into, setInto] = useState<string>();
  const [message, setMessage] = useState<string>();
  const target = useDeferredValue(into?.trim() === '' ? undefined : into?.trim());
  const several = (task.others ?? []).length > 0;
  const landing = useQuery({
    ...landingQuery(view, squash, target),
    placeholderData: (before) => before,
  });
  const { data } = landing;
  const proposed = data && (squash ? data.squash_message : data.merge_message);
  const land = useMutation({
    mutationFn: () =>
      request('post', '/v1/tasks/{task}/land', {
        path: { task: task.id },
        query: {},
        body: {
          squash,
          ...(target !== undefined && { target }),
          message: message === undefined || message.trim() === '' ? null : message,
        },
      }),
    onSuccess: (landed) => {
      live.reread(task.id);
      say(`Landed in ${oneLine(landed.target)} as ${landed.commit.slice(0, 12)}.`);
      onClose();
      onLanded?.();
    },
  });
  const makesCommit = squash || (data?.repositories.some((part) => part.how === 'merge') ?? false);
  return (
    <Dialog title={`Land ${oneLine(task.name)}`} onClose={onClose} wide>
      {!several && (
        <TextField
          label="Into"
          mono
          value={into ?? data?.repositories[0]?.target ?? task.target ?? ''}
          onChange={(event) => {
            setInto(event.target.value);
          }}
        />
      )}
      <Choice
        label="As"
        value={squash ? 'squash' : 'land'}
        onChange={(next) => {
          setSquash(next === 'squash');
          setMessage(undefined);
        }}
        options={[
          { value: 'land', label: 'Its own commits' },
          { value: 'squash', label: 'One commit' },
        ]}
      />
      {makesCommit && (
        <TextArea
          label="Message"
          value={message ?? safe(proposed ?? '')}
          className="font-mono"
          onChange={(event) => {
            setMessage(event.target.value);
          }}
        />
      )}
      {landing.error && !data && <ProblemBox error={landing.error} />}
      {data && <Forecast landing={data} />}
      {land.error && <ProblemBox error={land.error} />}
      <DialogButtons>
        <Button
          look="quiet"
          className="mr-auto text-danger"
          onClick={() => {
            onClose();
            ask('discard', [view]);
          }}
        >
          Discard instead…
        </Button>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="main"
          data-autofocus
          disabled={data !== undefined && !data.clean}
          busy={land.isPending && 'Landing…'}
          onClick={() => {
            land.mutate();
          }}
        >
          {squash ? 'Squash and land' : 'Land'}
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

function Forecast({ landing }: { landing: Schemas['LandingView'] }) {
  const warnings = [
    landing.runs_on_host > 0 &&
      `${count(landing.runs_on_host, 'changed file')} would run on your machine once this is checked out.`,
    landing.outside_scope > 0 &&
      `${count(landing.outside_scope, 'changed file')} outside of what the task was to touch.`,
    landing.unsent_comments > 0 && `${count(landing.unsent_comments, 'comment')} that you have not sent.`,
  ].filter((warning) => typeof warning === 'string');
  return (
    <div className="flex flex-col gap-3 text-sm" data-forecast>
      {landing.repositories.map((part) => (
        <section key={part.repository}>
          <p>
            {part.repository !== '' && <span className="font-medium">{oneLine(part.repository)}: </span>}
            {part.problem == null ? (
              <>
                Merges cleanly. <code className="font-mono text-xs">{oneLine(part.target ?? '?')}</code>{' '}
                {hows[part.how ?? ''] ?? 'gets it'}.
              </>
            ) : (
              <span className="text-danger">{safe(part.problem.message)}</span>
            )}{' '}
            <span className="text-muted">
              {count(part.ahead, 'commit')} to bring in
              {part.behind > 0 && `, ${count(part.behind, 'commit')} there that it has not`}
            </span>
          </p>
          {part.conflicts.map((conflict) => (
            <details key={conflict.path} open className="mt-2">
              <summary className="font-mono text-xs">
                {oneLine(conflict.path)} <span className="text-muted">{oneLine(conflict.kind)}</span>
              </summary>
              <p className="mt-1 text-muted">{oneLine(conflict.message)}</p>
              {conflict.hunks !== '' && (
                <pre
                  tabIndex={0}
                  className="mt-1 max-h-48 overflow-auto rounded-md bg-hover p-3 font-mono text-xs break-words whitespace-pre-wrap"
                >
                  {conflictLines(conflict.hunks)}
                </pre>
              )}
            </details>
          ))}
          {part.problem?.hint != null && (
            <p className="mt-2 text-muted">
              <Hint text={safe(part.problem.hint)} />
            </p>
          )}
        </section>
      ))}
      {landing.repositories.length === 0 && landing.problem && (
        <p className="text-danger">{safe(landing.problem.message)}</p>
      )}
      {warnings.length > 0 && (
        <ul className="rounded-md bg-danger-soft px-3 py-2">
          {warnings.map((warning) => (
            <li key={warning} className="text-danger">
              {warning}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** Which side a clashing line is of, by its ground. */
function conflictLines(hunks: string) {
  let side: 'ours' | 'theirs' | undefined;
  return safe(hunks)
    .split('\n')
    .map((text, index) => {
      let className = '';
      if (text.startsWith('<<<<<<<')) side = 'ours';
      if (text.startsWith('=======') && side === 'ours') {
        side = 'theirs';
        className = 'text-muted';
      } else if (side !== undefined) className = side === 'ours' ? 'bg-deleted-soft' : 'bg-added-soft';
      if (text.startsWith('>>>>>>>')) side = undefined;
      return (
        <div key={index} className={className}>
          {text === '' ? '\u200a' : text}
        </div>
      );
    });
}
