/**
 * Everything that waits for a person, the longest first.
 *
 * What was answered, here or elsewhere, stays in its place as one line until one leaves: nothing moves under the finger.
 * "Not now" is no answer: it goes on waiting, at the end of the list.
 */
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { Problem, request } from '../api';
import { live } from '../live';
import { useCommands } from '../ui/commands';
import { Command } from '../ui/Command';
import { Empty } from '../ui/Empty';
import { ProblemBox } from '../ui/ProblemBox';
import { useRemembered } from '../ui/storage';
import { oneLine } from '../ui/text';
import { Moment } from '../ui/Time';
import { complain } from '../ui/toasts';
import { choices, isDangerous, outcome, plainYes, subjectText, verdictOf, type Approval } from './asked';
import { Card, type Answering } from './Card';
import { Confirm, Deny, MakeRule, Say, type Answer } from './dialogs';
import { History, Rules } from './Past';
import { newestQuery, rulesQuery, useFreshApprovals, waitingQuery } from './query';
import { Verdict } from './Verdict';

export default function Inbox() {
  const { show } = useSearch({ from: '/shell/approvals' });
  useFreshApprovals();
  return (
    <div className="mx-auto flex max-w-3xl flex-col gap-4 py-4 md:px-4 md:py-6">
      <header className="flex flex-wrap items-baseline gap-x-6 px-4 md:px-0">
        <h1 className="text-xl font-semibold">Approvals</h1>
        <nav aria-label="Approvals" className="flex gap-4 text-sm">
          <Tab title="Waiting" />
          <Tab title="History" show="history" />
          <Tab title="Rules" show="rules" />
        </nav>
      </header>
      {show === 'history' ? <History /> : show === 'rules' ? <Rules /> : <Waiting />}
    </div>
  );
}

function Tab({ title, show }: { title: string; show?: 'history' | 'rules' }) {
  return (
    <Link
      to="/approvals"
      search={show === undefined ? {} : { show }}
      activeOptions={{ exact: true, includeSearch: true }}
      className="flex h-8 items-center border-b-2 border-transparent text-muted hover:text-text aria-[current=page]:border-accent aria-[current=page]:font-medium aria-[current=page]:text-text touch:h-11"
    >
      {title}
    </Link>
  );
}

const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((name) => typeof name === 'string');

/** So many are remembered as "not now"; the oldest are over by then. */
const SNOOZED = 200;

interface Open {
  is: 'deny' | 'rule' | 'confirm' | 'say';
  asked: Approval;
}

function Waiting() {
  const client = useQueryClient();
  const list = useQuery(waitingQuery);
  const [snoozed, setSnoozed] = useRemembered<string[]>('approvals.snoozed', [], isNames);
  const [chosenId, setChosen] = useState<string>();
  const [open, setOpen] = useState<Open>();
  const [busy, setBusy] = useState<readonly string[]>([]);
  const [mine, setMine] = useState<ReadonlyMap<string, Approval>>(new Map());
  // All that waited while this was open, in the order in which they came.
  const [visit, setVisit] = useState<readonly Approval[]>([]);
  const [merged, setMerged] = useState<typeof list.data>();
  if (list.data && list.data !== merged) {
    setMerged(list.data);
    const news = new Map(list.data.approvals.map((asked) => [asked.approval.id, asked]));
    const known = visit.map((asked) => news.get(asked.approval.id) ?? asked);
    const shown = new Set(visit.map((asked) => asked.approval.id));
    setVisit([...known, ...list.data.approvals.filter((asked) => !shown.has(asked.approval.id))]);
  }
  const waits = new Set(list.data?.approvals.map((asked) => asked.approval.id));
  const isOver = (asked: Approval) => mine.has(asked.approval.id) || !waits.has(asked.approval.id);
  const elsewhere = visit.filter((asked) => isOver(asked) && !mine.has(asked.approval.id));
  const past = useQuery({ ...newestQuery, enabled: elsewhere.length > 0 });
  const rules = useQuery({ ...rulesQuery, enabled: elsewhere.length > 0 });

  const isSnoozed = (asked: Approval) => snoozed.includes(asked.approval.id);
  const top = visit.filter((asked) => !isSnoozed(asked) || isOver(asked));
  const later = visit.filter((asked) => isSnoozed(asked) && !isOver(asked));
  const open_ = [...top.filter((asked) => !isOver(asked)), ...later];
  const chosen = open_.find((asked) => asked.approval.id === chosenId) ?? open_[0];

  const answer = async (asked: Approval, params: Answer) => {
    const { id } = asked.approval;
    setOpen(undefined);
    setBusy((others) => [...others, id]);
    // The next one is chosen before this one becomes a line.
    const next = open_[open_.findIndex((other) => other.approval.id === id) + 1];
    try {
      const view = await request('post', '/v1/approvals/{approval}', {
        path: { approval: id },
        query: {},
        body: params,
      });
      setMine((others) => new Map(others).set(id, view));
      setChosen((was) => (was === id ? next?.approval.id : was));
    } catch (error) {
      // Somebody else was first: the list says what became of it.
      if (!['not_waiting', 'no_such_approval'].includes(Problem.of(error).code))
        complain(error, `${asked.name} was not answered`);
    }
    setBusy((others) => others.filter((other) => other !== id));
    live.reread(asked.task);
    await client.invalidateQueries({ queryKey: ['approvals'] });
  };

  const answering: Answering = {
    allow: (asked, surely = false) => {
      if (!plainYes(asked.approval)) {
        if (asked.approval.subject.type === 'question') setOpen({ is: 'say', asked });
        return;
      }
      if (surely || !isDangerous(asked.approval)) void answer(asked, { verdict: 'allow' });
      else setOpen({ is: 'confirm', asked });
    },
    allowForTask: (asked) => {
      if (asked.can_be_rule && plainYes(asked.approval))
        void answer(asked, { verdict: 'allow', rule: 'task' });
    },
    makeRule: (asked) => {
      if (asked.can_be_rule && plainYes(asked.approval)) setOpen({ is: 'rule', asked });
    },
    deny: (asked) => {
      setOpen({ is: 'deny', asked });
    },
    snooze: (asked) => {
      const { id } = asked.approval;
      const next = open_[open_.findIndex((other) => other.approval.id === id) + 1];
      setSnoozed(
        isSnoozed(asked) ? snoozed.filter((other) => other !== id) : [...snoozed, id].slice(-SNOOZED),
      );
      if (!isSnoozed(asked)) setChosen(next?.approval.id);
    },
    choose: (asked, option) => void answer(asked, { verdict: verdictOf(option), option: option.id }),
    say: (asked) => {
      setOpen({ is: 'say', asked });
    },
  };

  const step = (by: number) => {
    const at = open_.findIndex((asked) => asked === chosen);
    setChosen(open_[Math.min(Math.max(at + by, 0), open_.length - 1)]?.approval.id);
  };
  const withChosen = (act: (asked: Approval) => void) => () => {
    if (chosen && !busy.includes(chosen.approval.id)) act(chosen);
  };
  useCommands([
    {
      title: 'Next',
      group: 'Approvals',
      keys: 'j',
      also: ['arrowdown'],
      keyOnly: true,
      run: () => {
        step(1);
      },
    },
    {
      title: 'Previous',
      group: 'Approvals',
      keys: 'k',
      also: ['arrowup'],
      keyOnly: true,
      run: () => {
        step(-1);
      },
    },
    ...(chosen
      ? [
          {
            title: 'Allow once',
            group: 'Approvals',
            keys: 'a',
            run: withChosen((asked) => {
              answering.allow(asked, true);
            }),
          },
          {
            title: 'Allow for this task',
            group: 'Approvals',
            keys: 't',
            run: withChosen(answering.allowForTask),
          },
          { title: 'Allow as a rule', group: 'Approvals', keys: 'r', run: withChosen(answering.makeRule) },
          { title: 'Deny', group: 'Approvals', keys: 'd', run: withChosen(answering.deny) },
          { title: 'Not now', group: 'Approvals', keys: 'n', run: withChosen(answering.snooze) },
          ...choices(chosen.approval)
            .slice(0, 9)
            .map((option, at) => ({
              title: `Answer ${at + 1}`,
              group: 'Approvals',
              keys: String(at + 1),
              keyOnly: true,
              run: withChosen((asked) => {
                answering.choose(asked, option);
              }),
            })),
        ]
      : []),
  ]);

  if (list.error && !list.data) return <ProblemBox error={list.error} />;
  if (!list.data) return <p className="p-8 text-center text-sm text-muted">Reading what waits…</p>;
  if (visit.length === 0) {
    return (
      <Empty title="Nothing waits for you">
        <p>
          Agents work without asking: the sandbox is the boundary. To see what an agent is about to do before
          it does it, let it ask:
        </p>
        <Command text='offshoot run "…" --permission ask' />
      </Empty>
    );
  }
  const item = (asked: Approval) => {
    const { id } = asked.approval;
    if (isOver(asked)) {
      const known = mine.get(id) ?? past.data?.approvals.find((other) => other.approval.id === id);
      const by = known?.approval.answer?.by;
      const rule = by?.type === 'rule' && rules.data?.rules.find((other) => other.rule.id === by.rule);
      return <Over key={id} asked={known ?? asked} mine={mine.has(id)} {...(rule && { rule: rule.name })} />;
    }
    return (
      <Card
        key={id}
        asked={asked}
        chosen={asked === chosen}
        snoozed={isSnoozed(asked)}
        busy={busy.includes(id)}
        answering={answering}
        onChoose={() => {
          setChosen(id);
        }}
      />
    );
  };
  const close = () => {
    setOpen(undefined);
  };
  const dialog = open && {
    asked: open.asked,
    onClose: close,
    onAnswer: (params: Answer) => void answer(open.asked, params),
  };
  return (
    <>
      {open_.length === 0 && (
        <p className="px-4 text-sm text-muted md:px-0">Nothing waits for you any more.</p>
      )}
      <ol aria-label="Waiting" className="flex flex-col gap-3">
        {top.map(item)}
      </ol>
      {later.length > 0 && (
        <section className="flex flex-col gap-3">
          <h2 className="px-4 text-sm text-muted md:px-0">Not now — these go on waiting</h2>
          <ol className="flex flex-col gap-3">{later.map(item)}</ol>
        </section>
      )}
      {dialog && open.is === 'deny' && <Deny {...dialog} />}
      {dialog && open.is === 'rule' && <MakeRule {...dialog} />}
      {dialog && open.is === 'confirm' && <Confirm {...dialog} />}
      {dialog && open.is === 'say' && <Say {...dialog} />}
    </>
  );
}

/** What was answered while one looked. */
function Over({ asked, mine, rule }: { asked: Approval; mine: boolean; rule?: string }) {
  const { approval } = asked;
  const known = approval.state !== 'waiting';
  const what = oneLine(subjectText(approval) ?? approval.title);
  // An answer is recorded first and handed over then; until then its record says "waiting".
  const said = approval.answer;
  const words = known
    ? outcome(approval, mine, rule)
    : said
      ? `${said.verdict === 'allow' ? 'allowed' : 'denied'} by ${mine ? 'you' : 'a person'}${said.rule ? ', and the same from now on' : ''}`
      : 'does not wait any more';
  return (
    <li data-over={asked.name} className="flex fade-in items-start gap-3 px-4 py-1.5 text-sm text-muted">
      <Verdict
        state={
          known ? approval.state : said ? (said.verdict === 'allow' ? 'allowed' : 'denied') : 'withdrawn'
        }
      />
      <span className="min-w-0 grow truncate">{what}</span>
      <span className="shrink-0 text-text">
        {mine ? '' : 'elsewhere: '}
        {words}
      </span>
      {approval.settled_at != null && (
        <span className="shrink-0 phone:hidden">
          <Moment at={approval.settled_at} />
        </span>
      )}
    </li>
  );
}
