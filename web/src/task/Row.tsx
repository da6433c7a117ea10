/** One line of a timeline, by what it is. Everything in it may come from an agent and is shown as text. */
import { Link } from '@tanstack/react-router';
import { createContext, memo, useContext, useState, type ReactNode } from 'react';
import { buttonClass } from '../ui/Button';
import { count } from '../ui/figures';
import { Lines } from '../ui/Lines';
import { oneLine, safe } from '../ui/text';
import { Elapsed, Moment } from '../ui/Time';
import { Change } from './Change';
import type {
  ApprovalItem,
  CheckItem,
  CheckpointItem,
  Item,
  MessageItem,
  NoteItem,
  RunItem,
  ToolItem,
  TurnItem,
} from './fold';
import { counted } from './lines';
import { Output } from './Output';
import { Shape, type ShapeName } from './Shape';
import { StepChange } from './StepChange';
import { Words } from './Words';
import { checkWords, toolWords, took } from './words';

/** Which lines a person opened or closed, by key. */
export const Opened = createContext(new Map<string, boolean>());

export interface RowProps {
  item: Item;
  task: string;
  /** Whether its turn is open, for the line that folds it. */
  open: boolean;
  /** Whether the newest run is still at work: what has no end goes on. */
  running: boolean;
  onFold: (turn: string, open: boolean) => void;
}

export const Row = memo(function Row(props: RowProps) {
  const { item } = props;
  switch (item.is) {
    case 'run':
      return <Run item={item} />;
    case 'turn':
      return <Turn {...props} item={item} />;
    case 'message':
      return (
        <div className="py-1.5 pl-6">
          <Words text={item.text} />
        </div>
      );
    case 'thought':
      return <Thought item={item} />;
    case 'tool':
      return <Tool item={item} running={props.running} />;
    case 'approval':
      return <Approval item={item} />;
    case 'check':
      return <Check item={item} running={props.running} />;
    case 'checkpoint':
      return <Checkpoint item={item} task={props.task} />;
    case 'note':
      return <Note item={item} />;
  }
});

/** A shape, what is said, a figure at the right; what is folded comes below. */
function Line({
  shape,
  label,
  right,
  below,
  open,
  onToggle,
  tone = '',
  children,
}: {
  shape: ShapeName;
  label?: string | undefined;
  right?: ReactNode;
  below?: ReactNode;
  /** `undefined`: nothing is folded. */
  open?: boolean | undefined;
  onToggle?: () => void;
  tone?: string;
  children: ReactNode;
}) {
  const inside = (
    <>
      <Shape name={shape} {...(label !== undefined && { label })} />
      <span className={`min-w-0 grow text-left ${open ? '' : 'line-clamp-2'} ${tone}`}>{children}</span>
      <span className="shrink-0 text-xs leading-5.5 whitespace-nowrap text-muted">{right}</span>
    </>
  );
  const className = 'flex w-full items-start gap-2 py-0.5 text-sm leading-5.5 touch:py-2';
  return (
    <div className="group">
      {open === undefined ? (
        <div className={className}>{inside}</div>
      ) : (
        <button
          type="button"
          aria-expanded={open}
          className={`${className} rounded-sm hover:bg-hover`}
          onClick={onToggle}
        >
          {inside}
        </button>
      )}
      {below !== undefined && below !== false && <div className="mt-1 mb-2 pl-6">{below}</div>}
    </div>
  );
}

/** A line that can be opened; it stays so while it is scrolled out of sight. */
function useOpen({ key }: Item, initially = false): [boolean, () => void] {
  const kept = useContext(Opened);
  const [open, setOpen] = useState(kept.get(key) ?? initially);
  return [
    open,
    () => {
      kept.set(key, !open);
      setOpen(!open);
    },
  ];
}

function Run({ item }: { item: RunItem }) {
  const [whole, toggle] = useOpen(item);
  const long = item.prompt.length > 800 || item.prompt.split('\n').length > 10;
  return (
    <section className="pt-6 pb-2" aria-label={`Run ${item.number}`}>
      <div className="flex flex-wrap items-baseline gap-x-3 border-b border-line pb-1">
        <h2 className="text-sm font-semibold">Run {item.number}</h2>
        <span className="text-xs text-muted">
          {[item.model, item.check === undefined ? undefined : `check: ${item.check}`]
            .filter((part) => part !== undefined)
            .map(oneLine)
            .join(' · ')}
        </span>
        <span className="grow" />
        <span className="text-xs text-muted">
          <Moment at={item.at} />
        </span>
      </div>
      {item.prompt.trim() === '' ? (
        <p className="mt-2 text-sm text-muted">An environment without an agent.</p>
      ) : (
        <p
          className={`mt-2 max-w-prose font-medium whitespace-pre-wrap ${long && !whole ? 'line-clamp-6' : ''}`}
        >
          {safe(item.prompt.trim())}
        </p>
      )}
      {long && (
        <button
          type="button"
          className={`${buttonClass('quiet')} -ml-2.5`}
          onClick={toggle}
          aria-expanded={whole}
        >
          {whole ? 'Show less' : 'Show all of it'}
        </button>
      )}
    </section>
  );
}

function Turn({ item, open, running, onFold }: RowProps & { item: TurnItem }) {
  const parts = [
    count(item.calls, 'tool call'),
    ...(item.edits > 0 ? [count(item.edits, 'edit')] : []),
    ...(item.failed > 0 ? [`${item.failed} failed`] : []),
  ];
  return (
    <div className="pt-2 pb-1">
      {!item.known && (
        <p className="mb-1 max-w-prose pl-6 font-medium whitespace-pre-wrap">{safe(item.prompt)}</p>
      )}
      <button
        type="button"
        aria-expanded={open}
        className="flex w-full items-center gap-2 rounded-sm py-0.5 text-xs text-muted hover:bg-hover hover:text-text touch:py-3"
        onClick={() => {
          onFold(item.turn, !open);
        }}
      >
        <svg viewBox="0 0 14 14" aria-hidden className={`mx-px size-3.5 ${open ? 'rotate-90' : ''}`}>
          <path d="M5 3l4 4-4 4" fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" />
        </svg>
        <span>{item.calls > 0 ? parts.join(', ') : 'Turn'}</span>
        <span className="h-px grow bg-line" />
        <span>
          {item.end !== undefined ? (
            took(item.end - item.at)
          ) : running ? (
            <Elapsed since={item.at} />
          ) : (
            'not ended'
          )}
        </span>
      </button>
    </div>
  );
}

function Thought({ item }: { item: MessageItem }) {
  const { text } = item;
  const [open, toggle] = useOpen(item);
  return (
    <Line
      shape="dot"
      open={open}
      onToggle={toggle}
      tone="text-muted italic"
      below={open && <Words text={text} quiet />}
    >
      {open ? 'Thought' : oneLine(text.slice(0, 240))}
    </Line>
  );
}

const toolShapes: Record<ToolItem['status'], ShapeName> = {
  pending: 'waits',
  running: 'runs',
  completed: 'done',
  failed: 'failed',
};

function Tool({ item, running }: { item: ToolItem; running: boolean }) {
  const change = item.change;
  const detail = item.detail !== undefined && item.detail !== item.title ? item.detail : undefined;
  // What was changed is what one wants to see; output is there when asked for.
  const [open, toggle] = useOpen(item, change !== undefined);
  const words = toolWords(item.title, item.tool, item.status);
  const going = item.status === 'running' || item.status === 'pending';
  const time = item.end === undefined ? undefined : item.end - item.at;
  return (
    <Line
      shape={going && !running ? 'waits' : toolShapes[item.status]}
      label={going && !running ? 'not ended' : item.status}
      open={change === undefined && detail === undefined ? undefined : open}
      onToggle={toggle}
      right={
        <>
          {change !== undefined && (
            <span className="mr-3">
              <Lines of={counted(change)} />
            </span>
          )}
          {going && running ? <Elapsed since={item.at} /> : time !== undefined && time > 0 ? took(time) : ''}
        </>
      }
      below={
        open && (
          <div className="flex flex-col gap-2">
            {change !== undefined && <Change text={change} path={words.about} />}
            {detail !== undefined && (change === undefined || item.status === 'failed') && (
              <Output text={detail} label={`Output of ${oneLine(item.title)}`} />
            )}
          </div>
        )
      }
    >
      {words.verb !== '' && <span className="text-muted">{words.verb} </span>}
      {words.code ? (
        <code className="font-mono text-xs">{oneLine(words.about)}</code>
      ) : (
        <span>{oneLine(words.about)}</span>
      )}
      {item.status === 'failed' && !open && detail !== undefined && (
        <span className="text-danger"> {oneLine(lastLine(detail))}</span>
      )}
      {item.status === 'failed' && detail === undefined && <span className="text-danger"> failed</span>}
    </Line>
  );
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)?.slice(0, 200) ?? '';
}

function Approval({ item }: { item: ApprovalItem }) {
  const { asked, answer } = item;
  const waits = item.settled === undefined;
  const [open, toggle] = useOpen(item, waits);
  const detail =
    asked.detail != null && asked.detail.trim() !== asked.title.trim() ? asked.detail : undefined;
  return (
    <Line
      shape={waits ? 'asks' : answer?.verdict === 'allow' ? 'done' : 'failed'}
      label={waits ? undefined : 'approval'}
      open={detail === undefined ? undefined : open}
      onToggle={toggle}
      right={<Moment at={item.settled ?? item.at} />}
      below={
        <>
          {detail !== undefined && open && <Change text={detail} />}
          {waits && (
            <Link to="/approvals" className={`${buttonClass('main')} mt-2`}>
              Answer
            </Link>
          )}
        </>
      }
    >
      {waits ? (
        <span className="font-medium text-accent">Waits for you: </span>
      ) : (
        <span>{verdict(item)}: </span>
      )}
      {oneLine(asked.title)}
      {answer?.text != null && answer.text !== '' && (
        <span className="text-muted"> “{oneLine(answer.text)}”</span>
      )}
      {item.withdrawn !== undefined && <span className="text-muted"> {oneLine(item.withdrawn)}</span>}
    </Line>
  );
}

function verdict({ answer, asked }: ApprovalItem): string {
  if (!answer) return 'Not asked any more';
  const chosen = asked.options.find((option) => option.id === answer.option);
  const word =
    chosen && asked.subject.type === 'question'
      ? `Answered ${oneLine(chosen.label)}`
      : answer.verdict === 'allow'
        ? 'Allowed'
        : 'Denied';
  const by = { person: '', rule: ' by a standing rule', deadline: ': nobody answered in time' }[
    answer.by.type
  ];
  const rule = answer.rule == null ? '' : `, from then on in this ${answer.rule.scope}`;
  return `${word}${by}${rule}`;
}

function Check({ item, running }: { item: CheckItem; running: boolean }) {
  const failed = item.over && item.code !== 0;
  const [open, toggle] = useOpen(item, failed);
  const has = item.output.trim() !== '';
  return (
    <Line
      shape={item.over ? (failed ? 'failed' : 'done') : running ? 'runs' : 'waits'}
      open={has ? open : undefined}
      onToggle={toggle}
      right={item.end !== undefined ? took(item.end - item.at) : running ? <Elapsed since={item.at} /> : ''}
      below={has && open && <Output text={item.output} label="Output of the check" />}
    >
      <span className="font-medium">Check </span>
      <code className="font-mono text-xs">{oneLine(item.command)}</code>{' '}
      <span className={failed ? 'text-danger' : ''}>{checkWords(item.over, item.code)}</span>
    </Line>
  );
}

function Checkpoint({ item, task }: { item: CheckpointItem; task: string }) {
  const [open, toggle] = useOpen(item);
  return (
    <Line
      shape="step"
      label="checkpoint"
      open={open}
      onToggle={toggle}
      right={item.changed > 0 ? count(item.changed, 'file') : ''}
      tone="text-muted"
      below={open && <StepChange task={task} step={item.number} />}
    >
      Checkpoint {item.number}: {oneLine(item.title)}
    </Line>
  );
}

const noteShapes: Record<NoteItem['tone'], ShapeName> = {
  plain: 'dot',
  good: 'done',
  bad: 'failed',
  you: 'asks',
};

function Note({ item }: { item: NoteItem }) {
  const [open, toggle] = useOpen(item);
  const { detail, tone } = item;
  const strong = item.kind === 'result' && tone !== 'plain';
  return (
    <Line
      shape={noteShapes[tone]}
      open={detail === undefined ? undefined : open}
      onToggle={toggle}
      right={
        <span className={strong ? '' : 'opacity-0 group-focus-within:opacity-100 group-hover:opacity-100'}>
          <Moment at={item.at} />
        </span>
      }
      tone={
        tone === 'bad'
          ? 'text-danger'
          : tone === 'you'
            ? 'text-accent'
            : strong
              ? 'font-medium'
              : 'text-muted'
      }
      below={open && detail !== undefined && <Output text={detail} label="More" />}
    >
      {oneLine(item.title)}
    </Line>
  );
}
