/** One approval that waits: what is asked, by whom, why, in what context, and its answers. */
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useEffect, useRef, useState } from 'react';
import { live } from '../live';
import { Button } from '../ui/Button';
import { Keys } from '../ui/Keys';
import { duration } from '../ui/figures';
import { baseName, oneLine, safe } from '../ui/text';
import { Elapsed, useSecond } from '../ui/Time';
import { choices, moreText, plainYes, subjectText, wants, type Approval, type Option } from './asked';
import { Clipped } from './Clipped';
import { contextQuery } from './query';
import { useSwipe, FAR } from './swipe';

export interface Answering {
  /** `surely`: it was looked at, so nothing is asked again. */
  allow: (asked: Approval, surely?: boolean) => void;
  allowForTask: (asked: Approval) => void;
  makeRule: (asked: Approval) => void;
  deny: (asked: Approval) => void;
  snooze: (asked: Approval) => void;
  choose: (asked: Approval, option: Option) => void;
  say: (asked: Approval) => void;
}

export function Card({
  asked,
  chosen,
  snoozed,
  busy,
  answering,
  onChoose,
}: {
  asked: Approval;
  /** By keyboard or pointer: the one that keys are about. */
  chosen: boolean;
  snoozed: boolean;
  busy: boolean;
  answering: Answering;
  onChoose: () => void;
}) {
  const { approval } = asked;
  const card = useRef<HTMLElement>(null);
  const swipe = useSwipe((direction) => {
    if (direction === 'left') answering.deny(asked);
    else if (plainYes(approval)) answering.allow(asked);
  }, !busy);
  useEffect(() => {
    if (chosen) card.current?.scrollIntoView({ block: 'nearest' });
  }, [chosen]);
  const subject = subjectText(approval);
  const more = moreText(approval);
  const title = oneLine(approval.title);
  const far = Math.abs(swipe.dx) >= FAR;
  return (
    <li className="relative overflow-clip rounded-lg phone:rounded-none">
      {swipe.dx !== 0 && (
        <div
          aria-hidden
          className={`absolute inset-0 flex items-center px-5 text-sm font-medium ${swipe.dx > 0 ? 'justify-start bg-accent-soft text-accent' : 'justify-end bg-danger-soft text-danger'} ${far ? '' : 'opacity-60'}`}
        >
          {swipe.dx > 0 ? (plainYes(approval) ? 'Allow once' : 'Choose below') : 'Deny'}
        </div>
      )}
      <article
        ref={card}
        aria-label={`${asked.name}: ${title}`}
        aria-current={chosen ? true : undefined}
        data-approval={asked.name}
        onFocus={onChoose}
        {...swipe.handlers}
        onMouseMove={(event) => {
          // What moves under a pointer that rests is not pointed at.
          if (!chosen && (event.movementX !== 0 || event.movementY !== 0)) onChoose();
        }}
        style={swipe.dx === 0 ? undefined : { transform: `translateX(${swipe.dx}px)` }}
        className={`relative touch-pan-y scroll-my-4 rounded-lg bg-surface p-4 ring-1 ring-inset phone:rounded-none ${chosen ? 'ring-edge' : 'ring-line'} ${snoozed ? 'opacity-80' : ''}`}
      >
        <header className="flex flex-wrap items-baseline gap-x-2 text-sm text-muted">
          <span className="text-text">
            <span className="font-medium">{oneLine(asked.agent ?? 'the task')}</span> wants {wants(approval)}
          </span>
          <span className="grow" />
          <span>
            waits <Elapsed since={approval.asked_at} />, <Deadline at={approval.deadline} />
          </span>
        </header>
        <h2
          className={
            title === oneLine(subject ?? '')
              ? 'sr-only'
              : `mt-1 font-medium ${subject === undefined ? 'text-lg' : ''}`
          }
        >
          {title}
        </h2>
        {subject !== undefined && <Clipped text={subject} label="What is asked for" strong />}
        {more !== undefined && <Clipped text={more} label="Details" />}
        <Context asked={asked} />
        <div className="mt-3 flex flex-wrap items-center gap-1.5 phone:gap-2">
          <Answers asked={asked} chosen={chosen} busy={busy} answering={answering} snoozed={snoozed} />
        </div>
      </article>
    </li>
  );
}

function Answers({
  asked,
  chosen,
  busy,
  answering,
  snoozed,
}: {
  asked: Approval;
  chosen: boolean;
  busy: boolean;
  answering: Answering;
  snoozed: boolean;
}) {
  const { approval } = asked;
  // Their room is kept, so that nothing moves when another one is chosen.
  const keys = (key: string) => <Keys keys={key} className={chosen ? '' : 'invisible'} />;
  const plain = plainYes(approval);
  const offered = choices(approval);
  return (
    <>
      {plain && (
        <Button
          look="main"
          busy={busy && 'Answering…'}
          onClick={() => {
            answering.allow(asked, true);
          }}
        >
          Allow once
          {keys('a')}
        </Button>
      )}
      {offered.map((option, at) => (
        <Button
          key={option.id}
          disabled={busy}
          className="max-w-full"
          onClick={() => {
            answering.choose(asked, option);
          }}
        >
          <span className="truncate">{oneLine(option.label) || 'An answer without words'}</span>
          {at < 9 && keys(String(at + 1))}
        </Button>
      ))}
      {approval.subject.type === 'question' && (
        <Button
          disabled={busy}
          onClick={() => {
            answering.say(asked);
          }}
        >
          In your own words…
        </Button>
      )}
      {asked.can_be_rule && plain && (
        <>
          <Button
            disabled={busy}
            onClick={() => {
              answering.allowForTask(asked);
            }}
          >
            For this task
            {keys('t')}
          </Button>
          <Button
            disabled={busy}
            onClick={() => {
              answering.makeRule(asked);
            }}
          >
            As a rule…
            {keys('r')}
          </Button>
        </>
      )}
      <Button
        disabled={busy}
        onClick={() => {
          answering.deny(asked);
        }}
      >
        Deny…
        {keys('d')}
      </Button>
      <Button
        look="quiet"
        disabled={busy}
        onClick={() => {
          answering.snooze(asked);
        }}
      >
        {snoozed ? 'Back to the top' : 'Not now'}
        {keys('n')}
      </Button>
    </>
  );
}

const HOUR = 3_600_000;

/** When waiting ends; in plain sight once it is near. */
function Deadline({ at }: { at: number }) {
  const left = at - useSecond() * 1000 - live.skew;
  return (
    <span
      className={left < HOUR ? 'font-medium text-text' : ''}
      data-elapsed
      title={new Date(at).toLocaleString()}
    >
      counts as denied in {duration(left)}
    </span>
  );
}

/** Which task, what it was asked to do, and what its agent said last. */
function Context({ asked }: { asked: Approval }) {
  const [seq] = useState(live.seq);
  const said = useQuery(contextQuery(asked.task, seq));
  const pieces: string[] = [];
  for (const entry of said.data?.entries ?? []) {
    if (entry.at > asked.approval.asked_at) break;
    if (entry.event.type !== 'agent') continue;
    const event = entry.event.agent;
    if (event.type === 'message' && event.role === 'assistant') pieces.push(event.text);
    // What was said before its last step is another matter.
    else if (event.type === 'turn_started') pieces.length = 0;
  }
  const last = pieces.join('').trim();
  return (
    <dl className="mt-2.5 grid grid-cols-[max-content_1fr] gap-x-3 gap-y-0.5 text-sm">
      <dt className="text-muted">Task</dt>
      <dd className="min-w-0">
        <Link
          to="/tasks/$task"
          params={{ task: asked.task }}
          className="underline decoration-line underline-offset-2 hover:decoration-current"
        >
          {oneLine(asked.task_name)}
        </Link>{' '}
        <span className="text-muted">in {baseName(asked.root)}</span>
      </dd>
      <dt className="text-muted">Asked to</dt>
      <dd className="line-clamp-2 min-w-0">{oneLine(asked.prompt)}</dd>
      {last !== '' && (
        <>
          <dt className="text-muted">It said</dt>
          <dd className="line-clamp-4 min-w-0 whitespace-pre-wrap">{safe(last.slice(-1200))}</dd>
        </>
      )}
    </dl>
  );
}
