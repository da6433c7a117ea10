/** What a task is about and what can be done with it, in the words of the API's state tables. Pure. */
import type { TaskRecord, TaskView } from '../api';
import { baseName, oneLine } from '../ui/text';

const active = new Set<TaskRecord['state']>(['queued', 'running', 'needs_attention', 'idle']);

export function canStop({ task }: TaskView): boolean {
  return active.has(task.state);
}

export function canFollowUp({ task }: TaskView): boolean {
  return (
    task.agent != null &&
    (task.state === 'complete' ||
      task.state === 'failed' ||
      task.state === 'stopped' ||
      task.state === 'landed')
  );
}

export function canLand({ task }: TaskView): boolean {
  return (
    task.state === 'complete' || task.state === 'failed' || task.state === 'stopped' || task.state === 'idle'
  );
}

export function canDiscard({ task }: TaskView): boolean {
  return task.state !== 'landed' && task.state !== 'discarded';
}

/** Whether discarding would throw work away. */
export function hasUnlandedWork({ task }: TaskView): boolean {
  return (
    canDiscard({ task }) &&
    ((task.head != null && task.head !== task.base) ||
      task.changes.files > 0 ||
      (task.others ?? []).length > 0)
  );
}

/** What it does, what it waits for or why it ended, in one line. */
export function now(view: TaskView): string {
  const { task } = view;
  const asked = task.approvals?.find((approval) => approval.answer == null);
  switch (task.state) {
    case 'queued':
      return view.waits_for != null ? `waits for ${oneLine(view.waits_for)}` : 'starts';
    case 'needs_attention':
      return asked ? `asks: ${oneLine(asked.title)}` : oneLine(task.reason ?? 'somebody has to look');
    case 'running':
      return oneLine(task.latest_tool ?? phase(task));
    default:
      return oneLine(task.reason ?? task.latest_tool ?? '');
  }
}

function phase(task: TaskRecord): string {
  switch (task.runs.at(-1)?.state) {
    case 'preparing':
      return 'its environment comes up';
    case 'checking':
      return `checks: ${task.runs.at(-1)?.check ?? ''}`;
    case 'harvesting':
      return 'its commits are brought out';
    default:
      return 'works';
  }
}

/** The outcome of the newest check, if there is one. */
export function check({ task }: TaskView): 'passed' | 'failed' | 'running' | undefined {
  const run = task.runs.at(-1);
  if (!run) return undefined;
  if (run.state === 'checking') return 'running';
  if (run.check_code == null) return undefined;
  return run.check_code === 0 ? 'passed' : 'failed';
}

/** What all runs cost together, as far as the agent tells. */
export function cost({ task }: TaskView): number | undefined {
  const costs = task.runs.map((run) => run.cost_usd).filter((usd) => usd != null);
  return costs.length > 0 ? costs.reduce((sum, usd) => sum + usd, 0) : undefined;
}

/** Since when it has been at what it is at: a run's start while it works, else since its state changed. */
export function since({ task }: TaskView): number {
  const run = task.runs.at(-1);
  if (task.state === 'running') return run?.started_at ?? task.state_since;
  return task.state_since;
}

/** What a person calls its repository. */
export function project({ task }: TaskView): string {
  return baseName(task.root);
}
