import { Moment } from '../ui/Time';
import { safe } from '../ui/text';
import { useThisTask } from './context';

/** The runs of a task, one after another. */
export default function Timeline() {
  const { task } = useThisTask();
  return (
    <ol className="flex flex-col gap-6 p-4 md:px-6">
      {task.runs.map((run) => (
        <li key={run.id}>
          <h2 className="text-sm text-muted">
            Run {run.number}, <Moment at={run.queued_at} />
          </h2>
          <p className="mt-1 max-w-prose whitespace-pre-wrap">{safe(run.prompt)}</p>
          {run.reason != null && <p className="mt-1 text-sm text-muted">{safe(run.reason)}</p>}
        </li>
      ))}
    </ol>
  );
}
