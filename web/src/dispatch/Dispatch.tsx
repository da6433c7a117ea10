/** One prompt or many, and what will happen with them before it happens. */
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useDeferredValue, useMemo, useState } from 'react';
import { Problem, request } from '../api';
import { live, useTasks } from '../live';
import { agentsQuery } from '../queries';
import { Button } from '../ui/Button';
import { Hint } from '../ui/Command';
import { useCommands } from '../ui/commands';
import { Choice, inputClass, TextArea, TextField } from '../ui/Field';
import { count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { baseName, oneLine } from '../ui/text';
import { say } from '../ui/toasts';
import { blank, params, useDraft, type Draft } from './draft';
import { Forecast } from './Forecast';
import { looksLikeList, split } from './split';

/** Repositories that are offered to be pressed. */
const OFFERED = 6;

export default function Dispatch() {
  const [draft, setDraft] = useDraft();
  const tasks = useTasks();
  const navigate = useNavigate();
  const [progress, setProgress] = useState<string>();
  const [failed, setFailed] = useState<readonly { prompt: string; problem: Problem }[]>([]);

  // The newest first: the one that was used last is the one that is meant, most of the time.
  const known = useMemo(() => [...new Set((tasks ?? []).map(({ task }) => task.root))], [tasks]);
  const path = draft.path === '' ? (known[0] ?? '') : draft.path;
  const prompts = draft.byHand
    ? ['']
    : draft.many
      ? split(draft.prompt)
      : draft.prompt.trim() === ''
        ? []
        : [draft.prompt];
  const change = (part: Partial<Draft>) => {
    setDraft({ ...draft, ...part });
  };
  const ready = path.trim() !== '' && prompts.length > 0;

  const send = async () => {
    if (!ready || progress !== undefined) return;
    const refused: { prompt: string; problem: Problem }[] = [];
    const made: string[] = [];
    // One after another: the queue then has the order of the list.
    for (const [index, prompt] of prompts.entries()) {
      setProgress(prompts.length === 1 ? 'Dispatching…' : `Dispatching ${index + 1} of ${prompts.length}…`);
      try {
        const view = await request('post', '/v1/tasks', { body: params({ ...draft, path }, prompt) });
        made.push(view.task.id);
      } catch (error) {
        refused.push({ prompt, problem: Problem.of(error) });
      }
    }
    setProgress(undefined);
    setFailed(refused);
    live.reread();
    if (made.length > 0) say(`${count(made.length, 'task')} dispatched.`);
    if (refused.length > 0) {
      // What was refused stays, to be mended and sent again.
      if (made.length > 0)
        change({
          path,
          prompt: refused
            .map(({ prompt }) => prompt)
            .join(draft.many && refused.some(({ prompt }) => prompt.includes('\n')) ? '\n---\n' : '\n'),
        });
      return;
    }
    // What is the same for the next task stays; what was about this one goes.
    setDraft({ ...draft, path, prompt: '', name: '', many: false });
    const [only] = made;
    if (made.length === 1 && only !== undefined)
      void navigate({ to: '/tasks/$task', params: { task: only } });
    else void navigate({ to: '/' });
  };
  useCommands([{ title: 'Dispatch', group: 'New task', keys: 'mod+enter', run: () => void send() }]);

  return (
    <form
      className="mx-auto flex max-w-5xl flex-col gap-x-10 gap-y-6 p-4 pb-0 md:grid md:grid-cols-[minmax(0,1fr)_18rem] md:py-8"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <div className="flex min-w-0 flex-col gap-5">
        <h1 className="text-xl font-semibold">New task</h1>
        <Repository
          value={path}
          known={known}
          onChange={(next) => {
            change({ path: next });
          }}
        />
        {!draft.byHand && (
          <div className="flex flex-col gap-2">
            <TextArea
              label={draft.many ? 'What is to be done: one task a line' : 'What is to be done'}
              about={
                draft.many
                  ? 'Marks of a list are left out. For prompts of several lines, put a line of dashes (---) between them.'
                  : 'What to change, where, and how to tell that it is right.'
              }
              rows={6}
              autoFocus
              value={draft.prompt}
              onChange={(event) => {
                change({ prompt: event.target.value });
              }}
              onPaste={(event) => {
                // A list that is pasted into nothing is many tasks.
                if (draft.prompt.trim() === '' && looksLikeList(event.clipboardData.getData('text'))) {
                  setTimeout(() => {
                    change({ prompt: event.clipboardData.getData('text'), many: true });
                  }, 0);
                  event.preventDefault();
                }
              }}
              onKeyDown={(event) => {
                if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
                  event.preventDefault();
                  void send();
                }
              }}
            />
            <label className="flex items-center gap-2 text-sm touch:min-h-11">
              <input
                type="checkbox"
                className="size-4 accent-accent"
                checked={draft.many}
                onChange={(event) => {
                  change({ many: event.target.checked });
                }}
              />
              Each line is a task of its own
            </label>
          </div>
        )}
        <Agents draft={draft} onChange={change} />
        <div className="grid gap-5 md:grid-cols-2">
          <TextField
            label="Starts from"
            about="A branch, a tag or a commit. What is not committed is not part of it."
            placeholder="HEAD of the checkout"
            mono
            value={draft.from}
            onChange={(event) => {
              change({ from: event.target.value });
            }}
          />
          <TextField
            label="Check"
            about="A command that has to succeed at the end."
            placeholder="the project’s, if it has one"
            mono
            value={draft.check}
            onChange={(event) => {
              change({ check: event.target.value });
            }}
          />
        </div>
        {!draft.byHand && (
          <TextField
            label="Scope"
            about="The paths it is to touch, as in .gitignore. What is changed elsewhere is flagged in the review."
            placeholder="everything"
            mono
            value={draft.scope}
            onChange={(event) => {
              change({ scope: event.target.value });
            }}
          />
        )}
        <More draft={draft} onChange={change} />
      </div>
      <aside className="flex flex-col gap-4 md:sticky md:top-8 md:self-start phone:contents">
        <Forecast
          path={useDeferredValue(path.trim())}
          prompts={prompts}
          many={draft.many}
          ask={prompts[0] === undefined ? undefined : params({ ...draft, path }, prompts[0])}
        />
        <div className="flex flex-col gap-2 phone:sticky phone:bottom-0 phone:order-last phone:-mx-4 phone:border-t phone:border-line phone:bg-bg phone:p-3">
          <Button
            type="submit"
            look="main"
            keys="mod+enter"
            disabled={!ready}
            busy={progress}
            className="h-9"
          >
            {draft.byHand
              ? 'Make the environment'
              : prompts.length > 1
                ? `Dispatch ${prompts.length} tasks`
                : 'Dispatch'}
          </Button>
          {draft.prompt !== '' && (
            <Button
              look="quiet"
              disabled={progress !== undefined}
              onClick={() => {
                setFailed([]);
                setDraft({ ...blank, path: draft.path });
              }}
            >
              Clear the draft
            </Button>
          )}
        </div>
        {failed.map(({ prompt, problem }) => (
          <div key={prompt} className="flex flex-col gap-1">
            {draft.many && <p className="truncate text-sm font-medium">{oneLine(prompt)}</p>}
            <ProblemBox error={problem} />
          </div>
        ))}
      </aside>
    </form>
  );
}

function Repository({
  value,
  known,
  onChange,
}: {
  value: string;
  known: readonly string[];
  onChange: (path: string) => void;
}) {
  return (
    <div className="flex flex-col gap-1.5">
      <TextField
        label="Repository"
        {...(known.length === 0 && { about: 'The path of a checkout on the machine where Offshoot runs.' })}
        placeholder="/home/you/src/project"
        mono
        list="repositories"
        value={value}
        onChange={(event) => {
          onChange(event.target.value);
        }}
      />
      <datalist id="repositories">
        {known.map((root) => (
          <option key={root} value={root} />
        ))}
      </datalist>
      {known.length > 1 && (
        <div className="flex flex-wrap gap-1">
          {known.slice(0, OFFERED).map((root) => (
            <Button
              key={root}
              aria-pressed={root === value}
              title={root}
              onClick={() => {
                onChange(root);
              }}
              className="aria-pressed:bg-chosen aria-pressed:ring-accent"
            >
              {baseName(root)}
            </Button>
          ))}
        </div>
      )}
    </div>
  );
}

const BY_HAND = ' by hand';

function Agents({ draft, onChange }: { draft: Draft; onChange: (part: Partial<Draft>) => void }) {
  const agents = useQuery(agentsQuery);
  const there = agents.data?.filter((agent) => agent.program != null) ?? [];
  const missing = agents.data?.filter((agent) => agent.program == null) ?? [];
  return (
    <div className="flex flex-col gap-2">
      <Choice
        label="Agent"
        value={draft.byHand ? BY_HAND : draft.agent}
        onChange={(agent) => {
          onChange(agent === BY_HAND ? { byHand: true } : { byHand: false, agent });
        }}
        options={[
          { value: '', label: 'the project’s' },
          ...there.map((agent) => ({ value: agent.name, label: agent.title })),
          { value: BY_HAND, label: 'none: by hand' },
        ]}
      />
      {agents.error && <ProblemBox error={agents.error} />}
      {missing.length > 0 && (
        <details className="text-xs text-muted" open={agents.data !== undefined && there.length === 0}>
          <summary>Not installed: {missing.map((agent) => agent.title).join(', ')}</summary>
          <dl className="mt-2 flex flex-col gap-2">
            {missing.map((agent) => (
              <div key={agent.name} className="flex flex-wrap items-center gap-x-3 gap-y-1">
                <dt className="w-24">{agent.title}</dt>
                <dd className="min-w-0">
                  <Hint text={agent.install.includes('`') ? agent.install : `\`${agent.install}\``} />
                </dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </div>
  );
}

function More({ draft, onChange }: { draft: Draft; onChange: (part: Partial<Draft>) => void }) {
  const used = [
    draft.name,
    draft.model,
    draft.instructions,
    draft.allow,
    draft.permission,
    draft.isolation,
  ].some((text) => text !== '');
  return (
    <details open={used} className="group">
      <summary className="w-fit text-sm text-muted hover:text-text touch:py-3">
        More: name, model, instructions, permissions, network, isolation
      </summary>
      <div className="mt-4 flex flex-col gap-5">
        {!draft.many && (
          <TextField
            label="Name"
            about="Of the task and of its branch."
            placeholder="made from the prompt"
            value={draft.name}
            onChange={(event) => {
              onChange({ name: event.target.value });
            }}
          />
        )}
        {!draft.byHand && (
          <>
            <TextField
              label="Model"
              placeholder="the agent’s own choice"
              value={draft.model}
              onChange={(event) => {
                onChange({ model: event.target.value });
              }}
            />
            <TextArea
              label="Instructions"
              about="What this task’s agent is told besides the project’s own."
              rows={2}
              className={`${inputClass} min-h-16`}
              value={draft.instructions}
              onChange={(event) => {
                onChange({ instructions: event.target.value });
              }}
            />
            <Choice
              label="What the agent asks for"
              value={draft.permission}
              onChange={(permission) => {
                onChange({ permission });
              }}
              options={[
                { value: '', label: 'as the project says' },
                { value: 'allow', label: 'is allowed' },
                { value: 'ask', label: 'is put to me' },
                { value: 'deny', label: 'is denied' },
              ]}
            />
          </>
        )}
        <TextField
          label="Hosts"
          about="That may be reached besides the configured ones."
          placeholder="registry.example.org *.example.com"
          mono
          value={draft.allow}
          onChange={(event) => {
            onChange({ allow: event.target.value });
          }}
        />
        <Choice
          label="Isolation"
          value={draft.isolation}
          onChange={(isolation) => {
            onChange({ isolation });
          }}
          options={[
            { value: '', label: 'as configured' },
            { value: 'sandbox', label: 'a sandbox' },
            { value: 'worktree', label: 'a worktree, no boundary' },
          ]}
        />
      </div>
    </details>
  );
}
