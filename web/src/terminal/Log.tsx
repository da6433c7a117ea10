/** The end of what an app or a service said, read again while it is shown. */
import { useQuery } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';
import { Problem, request } from '../api';
import { Ansi } from '../ui/Ansi';
import { ProblemBox } from '../ui/ProblemBox';

const AGAIN_MS = 1500;

export function Log({
  task,
  of,
  name,
  shown,
}: {
  task: string;
  of: 'app' | 'service';
  name: string;
  shown: boolean;
}) {
  const log = useQuery({
    queryKey: ['log', task, of, name],
    queryFn: ({ signal }) =>
      of === 'app'
        ? request('get', '/v1/tasks/{task}/apps/{app}/log', { path: { task, app: name }, signal })
        : request('get', '/v1/tasks/{task}/services/{service}/log', {
            path: { task, service: name },
            signal,
          }),
    refetchInterval: AGAIN_MS,
    enabled: shown,
  });
  const place = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current && place.current) place.current.scrollTop = place.current.scrollHeight;
  }, [log.data?.text, shown]);
  return (
    <div className={`absolute inset-0 flex flex-col bg-surface ${shown ? '' : 'invisible'}`}>
      {log.error ? (
        Problem.of(log.error).status === 404 ? (
          <p className="p-3 text-sm text-muted">It has not said anything: it was not started yet.</p>
        ) : (
          <div className="p-3">
            <ProblemBox error={log.error} />
          </div>
        )
      ) : (
        <pre
          ref={place}
          tabIndex={0}
          role="log"
          aria-label={`Log of ${name}`}
          className="min-h-0 grow overflow-auto px-3 py-2 font-mono text-xs leading-5 whitespace-pre-wrap focus-visible:-outline-offset-2"
          onScroll={(event) => {
            const at = event.currentTarget;
            atEnd.current = at.scrollHeight - at.scrollTop - at.clientHeight < 40;
          }}
        >
          {log.data?.truncated && <span className="text-muted">… there was more before{'\n'}</span>}
          {log.data && <Ansi text={log.data.text} />}
          {log.data?.text === '' && <span className="text-muted">Nothing was said yet.</span>}
        </pre>
      )}
    </div>
  );
}
