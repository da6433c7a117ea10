/**
 * What a person does to tasks: stop, follow up, land, discard; one or several at once. Board, task page and palette
 * ask for it here, and what needs a word more is asked in a dialog. One that fails leaves the others alone.
 */
import { lazy, Suspense, useState, useSyncExternalStore } from 'react';
import { Problem, request, type TaskView } from '../api';
import { live } from '../live';
import { Button } from '../ui/Button';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { TextArea, TextField } from '../ui/Field';
import { count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine } from '../ui/text';
import { complain, say } from '../ui/toasts';
import { hasUnlandedWork } from './what';

const Landing = lazy(() => import('../review/Landing'));

/** So many requests at a time. */
const AT_ONCE = 4;

interface Asked {
  what: 'follow up' | 'land' | 'discard';
  tasks: readonly TaskView[];
  done?: (() => void) | undefined;
}
let asked: Asked | undefined;
const listeners = new Set<() => void>();

function set(next: Asked | undefined): void {
  asked = next;
  for (const listener of listeners) listener();
}

/** Opens the dialog for it; `done` is called when it was done to all. */
export function ask(what: Asked['what'], tasks: readonly TaskView[], done?: () => void): void {
  if (tasks.length > 0) set({ what, tasks, done });
}

/** Stops them at once: what they did is kept, so nothing has to be asked. */
export async function stop(tasks: readonly TaskView[]): Promise<void> {
  const failed = await each(tasks, (task) =>
    request('post', '/v1/tasks/{task}/stop', { path: { task: task.task.id } }),
  );
  for (const [task, problem] of failed) complain(problem, `${oneLine(task.task.name)} was not stopped`);
  const stopped = tasks.length - failed.length;
  if (stopped > 0)
    say(
      `${names(tasks.filter((task) => !failed.some(([other]) => other === task)))} told to stop; what was done is kept.`,
    );
}

function names(tasks: readonly TaskView[]): string {
  const [first] = tasks;
  return tasks.length === 1 && first ? oneLine(first.task.name) : count(tasks.length, 'task');
}

/** Does it to each, some at a time; answers with those where it failed. */
async function each(
  tasks: readonly TaskView[],
  act: (task: TaskView) => Promise<unknown>,
): Promise<[TaskView, Problem][]> {
  const left = [...tasks];
  const failed: [TaskView, Problem][] = [];
  const work = async () => {
    for (let task = left.shift(); task; task = left.shift()) {
      try {
        await act(task);
      } catch (error) {
        failed.push([task, Problem.of(error)]);
      }
      live.reread(task.task.id);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, tasks.length) }, work));
  return failed;
}

export function ActionDialogs() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => asked,
  );
  if (!shown) return null;
  switch (shown.what) {
    case 'follow up':
      return <FollowUp {...shown} />;
    case 'land': {
      const [only] = shown.tasks;
      if (shown.tasks.length > 1 || !only) return <Land {...shown} />;
      return (
        <Suspense>
          <Landing view={only} onClose={close} onLanded={shown.done} />
        </Suspense>
      );
    }
    case 'discard':
      return <Discard {...shown} />;
  }
}

/** The state of a dialog that does something to each task and closes when all of it worked. */
function useEach(tasks: readonly TaskView[], done: (() => void) | undefined, worked: string) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<[TaskView, Problem][]>([]);
  const run = async (act: (task: TaskView) => Promise<unknown>) => {
    setBusy(true);
    // What worked is not done again by a second attempt.
    const meant = failed.length > 0 ? failed.map(([task]) => task) : tasks;
    const still = await each(meant, act);
    setBusy(false);
    setFailed(still);
    if (still.length > 0) return;
    say(`${names(tasks)} ${worked}.`);
    set(undefined);
    done?.();
  };
  const problems = failed.map(([task, problem]) => (
    <div key={task.task.id} className="flex flex-col gap-1">
      {tasks.length > 1 && <p className="text-sm font-medium">{oneLine(task.task.name)}</p>}
      <ProblemBox error={problem} />
    </div>
  ));
  return { busy, run, problems };
}

const close = () => {
  set(undefined);
};

function FollowUp({ tasks, done }: Asked) {
  const [prompt, setPrompt] = useState('');
  const { busy, run, problems } = useEach(tasks, done, 'queued again');
  const send = () =>
    void run((task) =>
      request('post', '/v1/tasks/{task}/runs', { path: { task: task.task.id }, body: { prompt } }),
    );
  return (
    <Dialog title={`Follow up on ${names(tasks)}`} onClose={close} wide>
      <TextArea
        label="What is to be done next"
        about="The agent goes on where it was, on the same branch."
        data-autofocus
        value={prompt}
        onChange={(event) => {
          setPrompt(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && prompt.trim() !== '') send();
        }}
      />
      {problems}
      <DialogButtons>
        <Button onClick={close}>Cancel</Button>
        <Button
          look="main"
          keys="mod+enter"
          disabled={prompt.trim() === ''}
          busy={busy && 'Sending…'}
          onClick={send}
        >
          Send
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

function Land({ tasks, done }: Asked) {
  const [squash, setSquash] = useState(false);
  const [message, setMessage] = useState('');
  const { busy, run, problems } = useEach(tasks, done, 'landed');
  const [only] = tasks;
  const into = tasks.length === 1 && only ? (only.task.target ?? 'its target') : 'their targets';
  return (
    <Dialog title={`Land ${names(tasks)} into ${oneLine(into)}`} onClose={close}>
      <label className="flex items-center gap-2 text-sm touch:min-h-11">
        <input
          type="checkbox"
          className="accent-accent"
          checked={squash}
          onChange={(event) => {
            setSquash(event.target.checked);
          }}
        />
        As one commit
      </label>
      {squash && (
        <TextField
          label="Message"
          placeholder="made from the task, if empty"
          value={message}
          onChange={(event) => {
            setMessage(event.target.value);
          }}
        />
      )}
      {problems}
      <DialogButtons>
        <Button onClick={close}>Cancel</Button>
        <Button
          look="main"
          data-autofocus
          busy={busy && 'Landing…'}
          onClick={() =>
            void run((task) =>
              request('post', '/v1/tasks/{task}/land', {
                path: { task: task.task.id },
                body: { squash, message: squash && message.trim() !== '' ? message : null },
              }),
            )
          }
        >
          Land
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

function Discard({ tasks, done }: Asked) {
  const [reason, setReason] = useState('');
  const { busy, run, problems } = useEach(tasks, done, 'discarded');
  const withWork = tasks.filter(hasUnlandedWork);
  return (
    <Dialog title={`Discard ${names(tasks)}?`} onClose={close}>
      <p className="text-sm">
        {withWork.length === 0
          ? 'There is no work in it that is not landed.'
          : `${names(withWork)} ${withWork.length === 1 ? 'holds' : 'hold'} work that is not landed. It cannot be brought back.`}
      </p>
      {withWork.length > 0 && (
        <ul className="max-h-40 overflow-y-auto text-sm text-muted">
          {withWork.map(({ task }) => (
            <li key={task.id}>
              {oneLine(task.name)}: {count(task.changes.files, 'file')}, +{task.changes.added} −
              {task.changes.deleted}
            </li>
          ))}
        </ul>
      )}
      <TextField
        label="Why"
        about="For the history. May be empty."
        value={reason}
        onChange={(event) => {
          setReason(event.target.value);
        }}
      />
      {problems}
      <DialogButtons>
        <Button onClick={close}>Cancel</Button>
        <Button
          look="danger"
          busy={busy && 'Discarding…'}
          onClick={() =>
            void run((task) =>
              request('post', '/v1/tasks/{task}/discard', {
                path: { task: task.task.id },
                body: { force: true, reason: reason.trim() === '' ? null : reason },
              }),
            )
          }
        >
          Discard
        </Button>
      </DialogButtons>
    </Dialog>
  );
}
