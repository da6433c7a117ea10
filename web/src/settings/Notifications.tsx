/** Who is told when nobody looks, tried out from here. */
import { useMutation } from '@tanstack/react-query';
import { request } from '../api';
import { Button } from '../ui/Button';
import { duration } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine } from '../ui/text';

export function Notifications() {
  const test = useMutation({ mutationFn: () => request('post', '/v1/notifications/test', {}) });
  return (
    <section className="flex flex-col gap-2">
      <h2 className="text-sm font-medium">Notifications</h2>
      <p className="text-sm text-muted">
        What waits for you is told by the tab’s title and its icon while a page is open. Desktop, webhook,
        ntfy and Slack are set in <code className="font-mono text-xs">config.toml</code>, under{' '}
        <code className="font-mono text-xs">[notifications]</code>. Nothing is sent about a task that you look
        at.
      </p>
      <div>
        <Button
          busy={test.isPending && 'Sending…'}
          onClick={() => {
            test.mutate();
          }}
        >
          Send a test
        </Button>
      </div>
      <div role="status">
        {test.error && <ProblemBox error={test.error} />}
        {test.data?.sent.length === 0 && <p className="text-sm">Nothing is set, so nothing was sent.</p>}
        {test.data && test.data.sent.length > 0 && (
          <ul className="text-sm">
            {test.data.sent.map((sent) => (
              <li key={`${sent.to} ${sent.host ?? ''}`}>
                <span className="font-medium">{oneLine(sent.to)}</span>
                {sent.host != null && <span className="text-muted"> at {oneLine(sent.host)}</span>}:{' '}
                {sent.error == null ? (
                  `taken, after ${sent.took_ms < 1000 ? `${sent.took_ms}\u00a0ms` : duration(sent.took_ms)}`
                ) : (
                  <span className="text-danger">{oneLine(sent.error)}</span>
                )}
              </li>
            ))}
          </ul>
        )}
      </div>
    </section>
  );
}
