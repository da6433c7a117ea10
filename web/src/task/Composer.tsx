/** The next prompt: a draft that survives a reload, sent when nothing runs; and what the task waits for. */
import { useEffect, useRef, useState } from 'react';
import { Problem, request } from '../api';
import { live } from '../live';
import { Button } from '../ui/Button';
import { useCommands } from '../ui/commands';
import { inputClass, TextField } from '../ui/Field';
import { Keys } from '../ui/Keys';
import { ProblemBox } from '../ui/ProblemBox';
import { forget, remember, remembered } from '../ui/storage';
import { oneLine } from '../ui/text';
import { useThisTask } from './context';
import { canFollowUp } from './what';

interface Draft {
  prompt: string;
  model: string;
  check: string;
}
const none: Draft = { prompt: '', model: '', check: '' };
const isDraft = (value: unknown): value is Draft =>
  typeof value === 'object' &&
  value !== null &&
  (['prompt', 'model', 'check'] as const).every((key) => typeof (value as Partial<Draft>)[key] === 'string');

export function Composer() {
  const view = useThisTask();
  const { task } = view;
  const key = `follow-up.${task.id}`;
  const [draft, setDraft] = useState<Draft>(() => remembered(key, isDraft) ?? none);
  const [more, setMore] = useState(draft.model !== '' || draft.check !== '');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const area = useRef<HTMLTextAreaElement>(null);
  const run = task.runs.at(-1);
  const can = canFollowUp(view);
  const suggested = view.suggested_prompt ?? undefined;

  const change = (news: Partial<Draft>) => {
    const next = { ...draft, ...news };
    setDraft(next);
    if (next.prompt === '' && next.model === '' && next.check === '') forget(key);
    else remember(key, next);
  };
  const ready = can && draft.prompt.trim() !== '' && !busy;
  const send = async () => {
    if (!ready) return;
    setBusy(true);
    setProblem(undefined);
    try {
      await request('post', '/v1/tasks/{task}/runs', {
        path: { task: task.id },
        body: {
          prompt: draft.prompt,
          model: draft.model.trim() === '' ? null : draft.model.trim(),
          check: draft.check.trim() === '' ? null : draft.check.trim(),
        },
      });
      change(none);
      setMore(false);
      live.reread(task.id);
    } catch (error) {
      setProblem(Problem.of(error));
    }
    setBusy(false);
  };
  useCommands([
    {
      title: 'Write the next prompt',
      group: 'Timeline',
      keys: 'r',
      run: () => {
        area.current?.focus();
      },
    },
  ]);
  // Where the browser does not size it by its content, this does.
  useEffect(() => {
    if (!area.current || CSS.supports('field-sizing: content')) return;
    area.current.style.height = 'auto';
    area.current.style.height = `${area.current.scrollHeight}px`;
  }, [draft.prompt]);

  if (task.agent == null) return null;
  if (task.state === 'discarded') return null;
  return (
    <form
      aria-label="Follow up"
      className="shrink-0 border-t border-line bg-bg px-4 py-2 md:px-6"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <div className="flex max-w-4xl flex-col gap-2">
        {problem && <ProblemBox error={problem} />}
        {suggested !== undefined && can && draft.prompt !== suggested && (
          <p className="flex flex-wrap items-baseline gap-x-2 text-sm">
            <span className="text-muted">The agent stopped at a denial and was not told why.</span>
            <button
              type="button"
              className="text-accent underline underline-offset-2 touch:py-2"
              onClick={() => {
                change({ prompt: suggested });
                area.current?.focus();
              }}
            >
              Use “{oneLine(suggested).slice(0, 80)}”
            </button>
          </p>
        )}
        {more && (
          <div className="grid gap-2 md:grid-cols-2">
            <TextField
              label="Model"
              placeholder={run?.model == null ? 'the agent’s own' : oneLine(run.model)}
              value={draft.model}
              onChange={(event) => {
                change({ model: event.target.value });
              }}
            />
            <TextField
              label="Check"
              mono
              placeholder={run?.check == null ? 'none' : oneLine(run.check)}
              value={draft.check}
              onChange={(event) => {
                change({ check: event.target.value });
              }}
            />
          </div>
        )}
        <div className="flex items-end gap-2">
          <textarea
            ref={area}
            rows={1}
            aria-label="The next prompt"
            placeholder={
              can
                ? 'What is to be done next'
                : 'Write down what comes next; it can be sent when this run is over'
            }
            value={draft.prompt}
            onChange={(event) => {
              change({ prompt: event.target.value });
            }}
            onKeyDown={(event) => {
              if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
                event.preventDefault();
                void send();
              } else if (event.key === 'Escape') event.currentTarget.blur();
            }}
            className={`${inputClass} field-sizing-content max-h-[35vh] min-h-8 resize-none py-1.5 touch:min-h-11`}
          />
          <Button
            look="quiet"
            className="h-8"
            aria-expanded={more}
            onClick={() => {
              setMore(!more);
            }}
          >
            Options
          </Button>
          <Button
            type="submit"
            look={can ? 'main' : 'plain'}
            className="h-8"
            disabled={!ready}
            busy={busy && 'Sending…'}
          >
            Send
            {ready && <Keys keys="mod+enter" />}
          </Button>
        </div>
      </div>
    </form>
  );
}
