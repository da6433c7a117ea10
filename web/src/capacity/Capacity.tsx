/** How full the machine is, what each environment costs, what waits and why. */
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState, type ReactNode } from 'react';
import { Problem, request, type Schemas, type TaskView } from '../api';
import { useTasks } from '../live';
import { capacityQuery, queries } from '../queries';
import { Button } from '../ui/Button';
import { Empty } from '../ui/Empty';
import { bytes, count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { StateShape, words } from '../ui/State';
import { baseName, oneLine } from '../ui/text';
import { Elapsed } from '../ui/Time';
import { complain } from '../ui/toasts';

type CapacityView = Schemas['CapacityView'];

export default function Capacity() {
  const capacity = useQuery(capacityQuery());
  const tasks = useTasks() ?? [];
  const view = capacity.data;
  return (
    <div className="mx-auto flex max-w-5xl flex-col gap-8 p-4 md:py-8">
      <div>
        <h1 className="text-xl font-semibold">Capacity</h1>
        {view && <Summary view={view} />}
      </div>
      {capacity.error && <ProblemBox error={capacity.error} />}
      {!view && !capacity.error && <p className="text-sm text-muted">Measuring…</p>}
      {view && (
        <>
          <Gauges view={view} />
          <Waiting tasks={tasks} view={view} />
          <Environments view={view} tasks={tasks} />
          <Layers />
          <CleanUp />
        </>
      )}
    </div>
  );
}

function Summary({ view }: { view: CapacityView }) {
  return (
    <p className="mt-1 text-muted">
      {view.room_for > 0
        ? `Room for ${count(view.room_for, 'more run', 'more runs')}; the one after would wait for ${oneLine(view.then_waits_for)}.`
        : `Full: the next run waits for ${oneLine(view.then_waits_for)}.`}
    </p>
  );
}

function Gauges({ view }: { view: CapacityView }) {
  const used = view.environments.reduce((sum, environment) => sum + environment.memory_bytes, 0);
  const written = view.environments.reduce((sum, environment) => sum + environment.disk_bytes, 0);
  return (
    <div className="grid gap-x-8 gap-y-6 sm:grid-cols-3">
      <Gauge
        title="Runs"
        part={view.active_runs}
        whole={view.max_runs}
        figure={`${view.active_runs} of ${view.max_runs}`}
      >
        {view.queued_runs > 0 ? `${view.queued_runs} wait` : 'none waits'}
      </Gauge>
      <Gauge
        title="Memory for runs"
        part={view.counted_bytes}
        whole={view.memory_bytes}
        figure={
          <>
            {bytes(view.counted_bytes)} of {bytes(view.memory_bytes)}
          </>
        }
      >
        each is counted with {bytes(view.each_bytes)}; in use {bytes(used)}, free on this machine{' '}
        {bytes(view.free_memory_bytes)}
      </Gauge>
      <Gauge
        title="Disk"
        part={written}
        whole={written + view.free_disk_bytes}
        figure={`${bytes(view.free_disk_bytes)} left`}
      >
        environments with processes wrote {bytes(written)}
      </Gauge>
    </div>
  );
}

function Gauge({
  title,
  part,
  whole,
  figure,
  children,
}: {
  title: string;
  part: number;
  whole: number;
  figure: ReactNode;
  children: ReactNode;
}) {
  const share = whole > 0 ? Math.min(1, part / whole) : 0;
  return (
    <section aria-label={title} className="flex flex-col gap-1">
      <h2 className="text-sm text-muted">{title}</h2>
      <p className="text-lg font-medium">{figure}</p>
      <svg
        viewBox="0 0 100 1"
        preserveAspectRatio="none"
        aria-hidden
        className="h-1.5 w-full overflow-hidden rounded-full bg-line"
      >
        {/* Full is no danger: what does not fit waits. */}
        <rect width={share * 100} height="1" className="fill-text" />
      </svg>
      <p className="text-xs text-muted">{children}</p>
    </section>
  );
}

function Waiting({ tasks, view }: { tasks: readonly TaskView[]; view: CapacityView }) {
  const waiting = tasks
    .filter(({ task }) => task.state === 'queued')
    .sort((a, b) => (a.queue_place ?? Infinity) - (b.queue_place ?? Infinity));
  if (waiting.length === 0) return null;
  return (
    <section>
      <h2 className="font-medium">
        Waiting <span className="text-muted">{waiting.length}</span>
      </h2>
      <p className="text-sm text-muted">
        First come, first served. The first waits for {oneLine(waiting[0]?.waits_for ?? view.then_waits_for)}.
      </p>
      <ol className="mt-2 border-t border-line text-sm">
        {waiting.map((item) => (
          <li
            key={item.task.id}
            className="relative flex items-center gap-3 border-b border-line/60 px-1 py-1.5 hover:bg-hover touch:min-h-11"
          >
            <span className="w-6 text-right text-muted">{item.queue_place}</span>
            <Link
              to="/tasks/$task"
              params={{ task: item.task.id }}
              className="min-w-0 grow truncate before:absolute before:inset-0"
            >
              {oneLine(item.task.name)}
            </Link>
            <span className="text-muted">
              <Elapsed since={item.task.state_since} />
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Environments({ view, tasks }: { view: CapacityView; tasks: readonly TaskView[] }) {
  if (view.environments.length === 0) {
    return (
      <Empty title="No environment has processes">
        <p>Those of finished tasks come back when they are looked at; until then they cost disk only.</p>
      </Empty>
    );
  }
  const most = Math.max(...view.environments.map((environment) => environment.memory_bytes), 1);
  const byName = new Map(tasks.map((task) => [task.task.name, task]));
  return (
    <section>
      <h2 className="font-medium">
        Environments <span className="text-muted">{view.environments.length}</span>
      </h2>
      <div className="mt-2 overflow-x-auto">
        <table className="w-full border-t border-line text-sm">
          <thead className="text-xs text-muted">
            <tr className="border-b border-line/60 text-right *:px-2 *:py-1.5 *:font-normal">
              <th className="text-left">Task</th>
              <th>Memory</th>
              <th className="w-32 phone:hidden">
                <span className="sr-only">Share</span>
              </th>
              <th className="phone:hidden">Processes</th>
              <th>Disk</th>
              <th className="text-left phone:hidden">Services</th>
            </tr>
          </thead>
          <tbody>
            {view.environments.map((environment) => {
              const task = byName.get(environment.task);
              return (
                <tr
                  key={environment.task}
                  className="border-b border-line/60 text-right *:px-2 *:py-1.5 hover:bg-hover"
                >
                  <td className="max-w-0 min-w-40 text-left">
                    <span className="flex items-center gap-2">
                      {task && <StateShape state={task.task.state} />}
                      <Link
                        to="/tasks/$task"
                        params={{ task: task?.task.id ?? environment.task }}
                        className="truncate hover:underline touch:py-2"
                      >
                        {oneLine(environment.task)}
                        {task && <span className="sr-only">, {words[task.task.state]}</span>}
                      </Link>
                      {environment.suspended && <span className="shrink-0 text-xs text-muted">frozen</span>}
                    </span>
                  </td>
                  <td className="whitespace-nowrap">{bytes(environment.memory_bytes)}</td>
                  <td className="phone:hidden">
                    <svg
                      viewBox="0 0 100 1"
                      preserveAspectRatio="none"
                      aria-hidden
                      className="h-1 w-full rounded-full bg-line"
                    >
                      <rect
                        width={(environment.memory_bytes / most) * 100}
                        height="1"
                        className="fill-muted"
                      />
                    </svg>
                  </td>
                  <td className="text-muted phone:hidden">{environment.processes}</td>
                  <td className="whitespace-nowrap">{bytes(environment.disk_bytes)}</td>
                  <td className="text-left text-muted phone:hidden">
                    {Object.entries(environment.services)
                      .map(([name, memory]) => `${oneLine(name)} ${bytes(memory)}`)
                      .join(', ')}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** What is kept on disk, by layer, and who stands on it. */
function Layers() {
  const layers = useQuery({
    queryKey: ['layers'],
    queryFn: ({ signal }) => request('get', '/v1/layers', { signal }),
    staleTime: 30_000,
  });
  if (layers.error) return <ProblemBox error={layers.error} />;
  if (!layers.data) return <p className="text-sm text-muted">Measuring the disk…</p>;
  const { layers: list, environments_bytes, images_bytes } = layers.data;
  return (
    <section>
      <h2 className="font-medium">
        Layers on disk <span className="text-muted">{list.length}</span>
      </h2>
      <p className="text-sm text-muted">
        Shared by all environments. Besides them, environments wrote {bytes(environments_bytes)}, and images
        of services take {bytes(images_bytes)}.
      </p>
      {list.length > 0 && (
        <table className="mt-2 w-full border-t border-line text-sm">
          <thead className="text-left text-xs text-muted">
            <tr className="border-b border-line/60 *:px-2 *:py-1.5 *:font-normal">
              <th>Layer</th>
              <th>Repository</th>
              <th className="text-right">Disk</th>
              <th className="phone:hidden">Who stands on it</th>
            </tr>
          </thead>
          <tbody>
            {list.map((layer) => (
              <tr key={layer.id} className="border-b border-line/60 *:px-2 *:py-1.5 hover:bg-hover">
                <td>
                  {layer.kind ?? 'layer'}{' '}
                  <code className="font-mono text-xs text-muted">{layer.id.slice(0, 10)}</code>
                </td>
                <td>{baseName(layer.root)}</td>
                <td className="text-right whitespace-nowrap">{bytes(layer.bytes)}</td>
                <td className="text-muted phone:hidden">
                  {layer.tasks.length === 0 ? 'nobody' : layer.tasks.map(oneLine).join(', ')}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** What nobody needs any more goes; work that is not landed never does. */
function CleanUp() {
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState<Schemas['PruneView']>();
  const prune = async () => {
    setBusy(true);
    try {
      setDone(await request('post', '/v1/prune', {}));
      await queries.invalidateQueries();
    } catch (error) {
      complain(Problem.of(error), 'Nothing was cleaned up');
    }
    setBusy(false);
  };
  return (
    <section className="flex flex-col items-start gap-2">
      <h2 className="font-medium">Clean-up</h2>
      <p className="max-w-prose text-sm text-muted">
        Takes away environments of tasks that are over, and layers that nothing stands on. Work that is not
        landed is never touched.
      </p>
      <Button onClick={() => void prune()} busy={busy && 'Cleaning up…'}>
        Clean up
      </Button>
      {done && (
        <div role="status" className="w-full text-sm">
          <p>
            {done.removed.length === 0
              ? 'There was nothing to take away'
              : `${count(done.removed.length, 'thing')} taken away`}
            , {bytes(done.freed_bytes)} came free.
          </p>
          <Reasons title="Taken away" items={done.removed} />
          <Reasons title="Kept" items={done.kept} />
        </div>
      )}
    </section>
  );
}

function Reasons({ title, items }: { title: string; items: readonly Schemas['Reasoned'][] }) {
  if (items.length === 0) return null;
  return (
    <details className="mt-1">
      <summary className="text-muted">
        {title}: {items.length}
      </summary>
      <ul className="mt-1 flex flex-col gap-0.5 pl-4">
        {items.map((item, index) => (
          <li key={index}>
            {oneLine(item.what)} <span className="text-muted">— {oneLine(item.reason)}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}
