/**
 * In which order tasks stand on the board: who waits for the person first. Pure.
 *
 * A lane is a state, or two that mean the same to whoever looks. Within a lane the one that has waited longest for a
 * person stands first; of those that wait for nobody, the newest.
 */
import type { TaskState, TaskView } from '../api';
import { baseName } from '../ui/text';
import { project } from '../task/what';
import { words } from '../ui/State';

export interface Lane {
  title: string;
  states: readonly TaskState[];
  /** The longest wait first. */
  waits: boolean;
}

export const lanes: readonly Lane[] = [
  { title: 'Needs attention', states: ['needs_attention'], waits: true },
  { title: 'Complete', states: ['complete'], waits: true },
  { title: 'Failed', states: ['failed', 'stopped'], waits: true },
  { title: 'Idle', states: ['idle'], waits: true },
  { title: 'Running', states: ['running'], waits: false },
  { title: 'Queued', states: ['queued'], waits: true },
  { title: 'Landed', states: ['landed'], waits: false },
];

export interface Section {
  /** Unique on the board. */
  key: string;
  title: string;
  /** The states that it is for, the first of which gives it its shape; none for a project. */
  states: readonly TaskState[];
  tasks: readonly TaskView[];
}

const laneOf = new Map(lanes.flatMap((lane, index) => lane.states.map((state) => [state, index] as const)));

/** By lane, then by how long it waits. */
function before(a: TaskView, b: TaskView): number {
  const [laneA, laneB] = [laneOf.get(a.task.state) ?? lanes.length, laneOf.get(b.task.state) ?? lanes.length];
  if (laneA !== laneB) return laneA - laneB;
  if (a.queue_place != null && b.queue_place != null) return a.queue_place - b.queue_place;
  const wait = a.task.state_since - b.task.state_since;
  return (lanes[laneA]?.waits === true ? wait : -wait) || a.task.id.localeCompare(b.task.id);
}

/** The sections of the board; empty ones are left out. */
export function arrange(tasks: readonly TaskView[], by: 'state' | 'project'): Section[] {
  const sorted = tasks.filter(({ task }) => laneOf.has(task.state)).sort(before);
  if (by === 'state') {
    return lanes
      .map((lane) => ({
        key: lane.title,
        title: lane.title,
        states: lane.states,
        tasks: sorted.filter(({ task }) => lane.states.includes(task.state)),
      }))
      .filter((section) => section.tasks.length > 0);
  }
  const groups = new Map<string, TaskView[]>();
  for (const view of sorted) groups.set(view.task.root, [...(groups.get(view.task.root) ?? []), view]);
  return [...groups]
    .map(([root, group]) => ({ key: root, title: baseName(root), states: [], tasks: group }))
    .sort((a, b) => a.title.localeCompare(b.title) || a.key.localeCompare(b.key));
}

/**
 * Whether a task is one that was asked for. All words have to be found, in its name, project, agent, branch, state or
 * prompts; `is:failed`, `agent:codex` and `project:shop` look at one of these only.
 */
export function matches(view: TaskView, query: string): boolean {
  const { task } = view;
  const parts: Record<string, () => string> = {
    is: () => words[task.state],
    agent: () => task.agent ?? 'by hand',
    project: () => project(view),
  };
  return query
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
    .every((word) => {
      const [, part = '', value = ''] = /^(\w+):(.+)$/.exec(word) ?? [];
      const look = parts[part];
      if (look) return look().toLowerCase().startsWith(value.replaceAll('_', ' '));
      return [
        task.name,
        project(view),
        task.agent ?? '',
        task.branch,
        words[task.state],
        ...task.runs.map((run) => run.prompt),
      ].some((text) => text.toLowerCase().includes(word));
    });
}

/**
 * `next`, in the order of `shown` as far as that goes: while somebody points at the list nothing moves. What is new
 * waits, what is gone leaves its place, and the content is always the newest.
 */
export function hold(
  shown: readonly Section[],
  next: readonly Section[],
): { sections: Section[]; waiting: number } {
  const newest = new Map(
    next.flatMap((section) => section.tasks.map((view) => [view.task.id, view] as const)),
  );
  const place = new Map(
    next.flatMap((section) => section.tasks.map((view) => [view.task.id, section.key] as const)),
  );
  let waiting = newest.size;
  const sections = shown.map((section) => ({
    ...section,
    tasks: section.tasks.flatMap(({ task }) => {
      const view = newest.get(task.id);
      if (view && place.get(task.id) === section.key) waiting -= 1;
      return view ? [view] : [];
    }),
  }));
  return { sections, waiting };
}
