/** What became of what waited, and the standing rules with what they decided. */
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { request, type Schemas } from '../api';
import { Button } from '../ui/Button';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { Empty } from '../ui/Empty';
import { count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { baseName, oneLine, safe } from '../ui/text';
import { Moment } from '../ui/Time';
import { complain, say } from '../ui/toasts';
import { matchWords, outcome, subjectText } from './asked';
import { historyQuery, rulesQuery } from './query';
import { Verdict } from './Verdict';

export function History() {
  const history = useInfiniteQuery(historyQuery);
  const rules = useQuery(rulesQuery);
  if (history.error) return <ProblemBox error={history.error} />;
  if (!history.data) return <p className="p-8 text-center text-sm text-muted">Reading the history…</p>;
  const past = history.data.pages
    .flatMap((page) => page.approvals)
    .filter(({ approval }) => approval.state !== 'waiting');
  if (past.length === 0) {
    return (
      <Empty title="Nothing was ever asked">
        <p>What agents ask for and what was answered is listed here: who allowed it, when, by which rule.</p>
      </Empty>
    );
  }
  const nameOfRule = (id: string) => rules.data?.rules.find(({ rule }) => rule.id === id)?.name;
  return (
    <>
      <ol className="divide-y divide-line border-y border-line">
        {past.map((asked) => {
          const { approval } = asked;
          const by = approval.answer?.by;
          const said = approval.answer?.text ?? approval.withdrawn;
          return (
            <li key={approval.id} className="flex items-start gap-3 px-4 py-2.5 md:px-2">
              <Verdict state={approval.state} />
              <div className="min-w-0 grow">
                <p className="line-clamp-2">{oneLine(subjectText(approval) ?? approval.title)}</p>
                <p className="text-sm text-muted">
                  {outcome(approval, false, by?.type === 'rule' ? nameOfRule(by.rule) : undefined)}
                  {' · '}
                  <Link
                    to="/tasks/$task"
                    params={{ task: asked.task }}
                    className="hover:text-text hover:underline"
                  >
                    {oneLine(asked.name)}
                  </Link>
                  {asked.agent != null && ` · ${oneLine(asked.agent)}`}
                </p>
                {said != null && <p className="mt-0.5 text-sm whitespace-pre-wrap">“{safe(said)}”</p>}
              </div>
              <span className="shrink-0 text-sm text-muted">
                <Moment at={approval.settled_at ?? approval.asked_at} />
              </span>
            </li>
          );
        })}
      </ol>
      {history.hasNextPage && (
        <div className="p-4 text-center">
          <Button
            busy={history.isFetchingNextPage && 'Reading…'}
            onClick={() => void history.fetchNextPage()}
          >
            Older
          </Button>
        </div>
      )}
    </>
  );
}

export function Rules() {
  const rules = useQuery(rulesQuery);
  const [revoking, setRevoking] = useState<Schemas['RuleView']>();
  if (rules.error) return <ProblemBox error={rules.error} />;
  if (!rules.data) return <p className="p-8 text-center text-sm text-muted">Reading the rules…</p>;
  if (rules.data.rules.length === 0) {
    return (
      <Empty title="No standing rules">
        <p>
          An answer becomes one by “For this task” or “As a rule…”. It then answers the same request without
          asking, and is listed here with what it decided.
        </p>
      </Empty>
    );
  }
  return (
    <>
      <ol className="divide-y divide-line border-y border-line">
        {rules.data.rules.map((view) => {
          const { rule } = view;
          const { words, text } = matchWords(rule.matches);
          return (
            <li key={rule.id} className="flex items-start gap-3 px-4 py-2.5 md:px-2">
              <Verdict state={rule.verdict === 'allow' ? 'allowed' : 'denied'} />
              <div className="min-w-0 grow">
                <p>
                  {rule.verdict === 'allow' ? 'Allows' : 'Denies'} {words}
                </p>
                <pre className="mt-0.5 line-clamp-4 font-mono text-sm break-words whitespace-pre-wrap">
                  {safe(text)}
                </pre>
                <p className="mt-0.5 text-sm text-muted">
                  {rule.scope === 'task' ? 'in this task only' : `in all tasks of ${baseName(view.root)}`}
                  {' · made with '}
                  <Link
                    to="/tasks/$task"
                    params={{ task: view.task }}
                    className="hover:text-text hover:underline"
                  >
                    {oneLine(view.name)}
                  </Link>
                  {', '}
                  <Moment at={rule.made_at} />
                  {' · '}
                  {view.answered === 0 ? (
                    'has answered nothing yet'
                  ) : (
                    <>
                      answered {count(view.answered ?? 0, 'request')}
                      {view.last_answered != null && (
                        <>
                          , last <Moment at={view.last_answered} />
                        </>
                      )}
                    </>
                  )}
                </p>
                {rule.text != null && <p className="mt-0.5 text-sm">“{safe(rule.text)}”</p>}
              </div>
              <Button
                onClick={() => {
                  setRevoking(view);
                }}
              >
                Revoke…
              </Button>
            </li>
          );
        })}
      </ol>
      {revoking && (
        <Revoke
          view={revoking}
          onClose={() => {
            setRevoking(undefined);
          }}
        />
      )}
    </>
  );
}

function Revoke({ view, onClose }: { view: Schemas['RuleView']; onClose: () => void }) {
  const client = useQueryClient();
  const revoke = useMutation({
    mutationFn: () =>
      request('post', '/v1/approvals/rules/{rule}/remove', { path: { rule: view.rule.id }, query: {} }),
    onSuccess: () => {
      say(`The rule ${view.name} is revoked.`);
      onClose();
    },
    onError: (error) => {
      complain(error, `The rule ${view.name} was not revoked`);
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: ['approvals'] }),
  });
  const { words, text } = matchWords(view.rule.matches);
  return (
    <Dialog title={`Revoke the rule ${view.name}?`} onClose={onClose}>
      <p className="text-sm">From now on somebody is asked again about {words}</p>
      <pre className="max-h-40 overflow-auto rounded-md bg-hover px-3 py-2 font-mono text-sm break-words whitespace-pre-wrap">
        {safe(text)}
      </pre>
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="danger"
          data-autofocus
          busy={revoke.isPending && 'Revoking…'}
          onClick={() => {
            revoke.mutate();
          }}
        >
          Revoke
        </Button>
      </DialogButtons>
    </Dialog>
  );
}
