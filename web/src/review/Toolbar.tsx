/** What is looked at, and how. */
import type { Schemas } from '../api';
import { useThisTask } from '../task/context';
import { canFollowUp } from '../task/what';
import { Button } from '../ui/Button';
import { count } from '../ui/figures';
import { Lines } from '../ui/Lines';
import { Menu } from '../ui/Menu';
import { oneLine } from '../ui/text';
import type { What } from './anchor';

const short = (commit: string) => commit.slice(0, 8);

export function Toolbar({
  diff,
  commits,
  what,
  onWhat,
  split,
  onSplit,
  ignore,
  onIgnore,
  flagged,
  flaggedCount,
  onFlagged,
  drafts,
  onSend,
  onFiles,
  busy,
}: {
  diff: Schemas['DiffView'];
  commits: readonly Schemas['CommitView'][];
  what: What;
  onWhat: (what: What) => void;
  split: boolean;
  onSplit: (split: boolean) => void;
  ignore: boolean;
  onIgnore: (ignore: boolean) => void;
  flagged: boolean;
  flaggedCount: number;
  onFlagged: (flagged: boolean) => void;
  drafts: number;
  onSend: () => void;
  onFiles: () => void;
  busy: boolean;
}) {
  const view = useThisTask();
  const { task } = view;
  const added = diff.files.reduce((sum, file) => sum + (file.added ?? 0), 0);
  const deleted = diff.files.reduce((sum, file) => sum + (file.deleted ?? 0), 0);
  const value = what.is === 'all' ? 'all' : what.is === 'commit' ? `c${what.commit}` : `s${what.step}`;
  return (
    <div
      role="toolbar"
      aria-label="Review"
      className="z-10 flex flex-wrap items-center gap-2 border-b border-line bg-bg px-4 py-1.5 text-sm md:px-4 phone:sticky phone:top-0"
    >
      <select
        aria-label="What is shown"
        value={value}
        onChange={({ target }) => {
          const rest = target.value.slice(1);
          if (target.value === 'all') onWhat({ is: 'all' });
          else if (target.value.startsWith('c')) onWhat({ is: 'commit', commit: rest });
          else onWhat({ is: 'step', step: Number(rest) });
        }}
        className="h-7 max-w-64 min-w-0 truncate rounded-md bg-surface px-2 ring-1 ring-line ring-inset hover:bg-hover touch:h-11 phone:max-w-none phone:grow phone:basis-0"
      >
        <option value="all">All changes</option>
        {what.is === 'commit' && !commits.some(({ commit }) => commit === what.commit) && (
          <option value={value}>Commit {short(what.commit)}</option>
        )}
        {commits.length > 0 && (
          <optgroup label={count(commits.length, 'commit')}>
            {commits.map((one) => (
              <option key={one.commit} value={`c${one.commit}`}>
                {short(one.commit)} {oneLine(one.subject)}
              </option>
            ))}
          </optgroup>
        )}
        {task.checkpoints.length > 0 && (
          <optgroup label={count(task.checkpoints.length, 'step')}>
            {task.checkpoints.map((one) => (
              <option key={one.number} value={`s${one.number}`}>
                Step {one.number}: {oneLine(one.title)}
              </option>
            ))}
          </optgroup>
        )}
      </select>
      <span className="text-muted phone:sr-only">
        {count(diff.files.length, 'file')} <Lines of={{ added, deleted }} />
        {busy && <span className="fade-in"> · reading…</span>}
      </span>
      <span className="grow phone:hidden" />
      {flaggedCount > 0 && (
        <label className="flex h-7 cursor-pointer items-center gap-1.5 rounded-md px-2 ring-1 ring-line ring-inset hover:bg-hover has-checked:bg-chosen has-checked:ring-accent touch:h-11 phone:hidden">
          <input
            type="checkbox"
            className="accent-accent"
            checked={flagged}
            onChange={() => {
              onFlagged(!flagged);
            }}
          />
          Flagged only ({flaggedCount})
        </label>
      )}
      <Button look="quiet" className="md:hidden" onClick={onFiles}>
        Files
      </Button>
      <Menu
        trigger={<Button look="quiet">View</Button>}
        items={[
          {
            title: 'Unified',
            checked: !split,
            run: () => {
              onSplit(false);
            },
          },
          {
            title: 'Side by side',
            checked: split,
            run: () => {
              onSplit(true);
            },
          },
          {
            title: 'Ignore whitespace',
            checked: ignore,
            run: () => {
              onIgnore(!ignore);
            },
          },
          ...(flaggedCount > 0
            ? [
                {
                  title: 'Flagged only',
                  checked: flagged,
                  run: () => {
                    onFlagged(!flagged);
                  },
                },
              ]
            : []),
        ]}
      />
      {(canFollowUp(view) || drafts > 0) && (
        <Button look={drafts > 0 ? 'main' : 'plain'} onClick={onSend} className="phone:hidden">
          {drafts > 0 ? `Send ${count(drafts, 'comment')}…` : 'Send back…'}
        </Button>
      )}
    </div>
  );
}
