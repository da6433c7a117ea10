/** What stands around every page about one task: its name, where it stands, what can be done with it, its tabs. */
import { useQuery } from '@tanstack/react-query';
import { Link, Outlet, useParams } from '@tanstack/react-router';
import { useEffect } from 'react';
import { Problem, request, type TaskView } from '../api';
import { live, useTask } from '../live';
import { filled } from '../routes';
import { Button } from '../ui/Button';
import { useCommands, type Command } from '../ui/commands';
import { Empty } from '../ui/Empty';
import { bytes, count, dollars } from '../ui/figures';
import { Lines } from '../ui/Lines';
import { Menu } from '../ui/Menu';
import { ProblemBox } from '../ui/ProblemBox';
import { StateWord } from '../ui/State';
import { oneLine } from '../ui/text';
import { Elapsed } from '../ui/Time';
import { ask, stop } from './actions';
import { TaskContext } from './context';
import { usePresence } from './presence';
import { canDiscard, canFollowUp, canLand, canStop, cost, now, project, since } from './what';

export default function Frame() {
  const { task: wanted } = useParams({ from: '/shell/tasks/$task' });
  const known = useTask(wanted);
  // A name, the beginning of an id, or a task that is over: the daemon knows which one is meant.
  const found = useQuery({
    queryKey: ['task', wanted],
    queryFn: ({ signal }) => request('get', '/v1/tasks/{task}', { path: { task: wanted }, signal }),
    enabled: known === undefined,
  });
  const id = found.data?.task.id;
  const live_ = useTask(id ?? wanted);
  useEffect(() => {
    if (id !== undefined && live.task(id) === undefined) live.reread(id);
  }, [id]);
  const view = known ?? live_ ?? found.data;
  if (view) return <Framed view={view} wanted={wanted} />;
  if (found.error) {
    return (
      <Empty
        title={
          Problem.of(found.error).status === 404 ? 'There is no such task' : 'The task could not be read'
        }
      >
        <ProblemBox error={found.error} />
      </Empty>
    );
  }
  return <p className="p-8 text-center text-sm text-muted">Reading the task…</p>;
}

/** `wanted`: how the address calls it, which links keep. */
function Framed({ view, wanted }: { view: TaskView; wanted: string }) {
  const { task } = view;
  usePresence(task.id);
  const actions: (Command & { can: boolean; danger?: boolean })[] = [
    { title: 'Stop', group: 'This task', keys: 's', can: canStop(view), run: () => void stop([view]) },
    {
      title: 'Follow up',
      group: 'This task',
      keys: 'f',
      can: canFollowUp(view),
      run: () => {
        ask('follow up', [view]);
      },
    },
    {
      title: 'Land',
      group: 'This task',
      keys: 'l',
      can: canLand(view),
      run: () => {
        ask('land', [view]);
      },
    },
    {
      title: 'Discard',
      group: 'This task',
      keys: 'd',
      can: canDiscard(view),
      danger: true,
      run: () => {
        ask('discard', [view]);
      },
    },
  ];
  const possible = actions.filter((action) => action.can);
  useCommands(possible);
  const spent = cost(view);
  const said = now(view);
  return (
    <TaskContext value={view}>
      <div className="flex min-h-full flex-col md:has-data-own-scroll:h-full">
        <header className="sticky top-0 z-10 shrink-0 border-b border-line bg-bg px-4 pt-3 md:px-6 phone:static">
          <div className="flex flex-wrap items-start gap-x-3 gap-y-2">
            <div className="min-w-0 grow basis-64">
              <h1 className="text-lg leading-6 font-semibold">{oneLine(task.name)}</h1>
              <p className="mt-0.5 flex flex-wrap items-center gap-x-3 text-sm text-muted">
                <StateWord state={task.state} />
                <Elapsed since={since(view)} />
                <span>{project(view)}</span>
                {task.agent != null && <span>{oneLine(task.agent)}</span>}
                {task.changes.files > 0 && (
                  <span>
                    {count(task.changes.files, 'file')} <Lines of={task.changes} />
                  </span>
                )}
                {view.memory_bytes != null && <span data-memory>{bytes(view.memory_bytes)}</span>}
                {spent !== undefined && <span>{dollars(spent)}</span>}
                <code className="font-mono text-xs">{oneLine(task.branch)}</code>
              </p>
            </div>
            <div className="flex gap-1.5 phone:hidden">
              {possible.map((action) => (
                <Button
                  key={action.title}
                  look={action.title === 'Land' ? 'main' : 'plain'}
                  onClick={action.run}
                >
                  {action.title}
                </Button>
              ))}
            </div>
            <div className="md:hidden">
              <Menu
                trigger={<Button>Actions</Button>}
                items={possible.map(({ title, run, danger }) => ({ title, run, danger: danger ?? false }))}
              />
            </div>
          </div>
          {said !== '' && <p className="mt-1 line-clamp-2 text-sm">{said}</p>}
          <nav aria-label="Task" className="-mb-px flex gap-4 pt-2 text-sm">
            <Tab to="/tasks/$task" task={wanted} title="Timeline" />
            {filled.review && <Tab to="/tasks/$task/review" task={wanted} title="Review" />}
            {filled.qa && <Tab to="/tasks/$task/qa" task={wanted} title="QA" />}
          </nav>
        </header>
        <div className="flex min-h-0 grow flex-col">
          <Outlet />
        </div>
      </div>
    </TaskContext>
  );
}

function Tab({
  to,
  task,
  title,
}: {
  to: '/tasks/$task' | '/tasks/$task/review' | '/tasks/$task/qa';
  task: string;
  title: string;
}) {
  return (
    <Link
      to={to}
      params={{ task }}
      activeOptions={{ exact: true }}
      className="flex h-8 items-center border-b-2 border-transparent text-muted hover:text-text aria-[current=page]:border-accent aria-[current=page]:font-medium aria-[current=page]:text-text touch:h-11"
    >
      {title}
    </Link>
  );
}
