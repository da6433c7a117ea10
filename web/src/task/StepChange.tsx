/** What a checkpoint changed against the one before, and the way back to it. */
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Problem, request } from '../api';
import { live } from '../live';
import { Button } from '../ui/Button';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { ProblemBox } from '../ui/ProblemBox';
import { say } from '../ui/toasts';
import { Change } from './Change';

export function StepChange({ task, step }: { task: string; step: number }) {
  const [asks, setAsks] = useState(false);
  const diff = useQuery({
    queryKey: ['diff', task, 'step', step],
    queryFn: ({ signal }) =>
      request('get', '/v1/tasks/{task}/diff', { path: { task }, query: { step }, signal }),
    staleTime: Infinity,
  });
  return (
    <div className="flex flex-col gap-2">
      {diff.error && <ProblemBox error={diff.error} />}
      {diff.isPending && <p className="text-sm text-muted">Reading what it changed…</p>}
      {diff.data &&
        (diff.data.patch.trim() === '' ? (
          <p className="text-sm text-muted">No file changed.</p>
        ) : (
          <Change text={diff.data.patch} most={40} />
        ))}
      {diff.data?.truncated && <p className="text-sm text-muted">More changed than is shown here.</p>}
      <div>
        <Button
          onClick={() => {
            setAsks(true);
          }}
        >
          Go back to this…
        </Button>
      </div>
      {asks && (
        <Restore
          task={task}
          step={step}
          onClose={() => {
            setAsks(false);
          }}
        />
      )}
    </div>
  );
}

function Restore({ task, step, onClose }: { task: string; step: number; onClose: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const restore = async () => {
    setBusy(true);
    try {
      await request('post', '/v1/tasks/{task}/restore', { path: { task }, body: { step } });
      live.reread(task);
      say(`The files go back to checkpoint ${step}.`);
      onClose();
    } catch (error) {
      setProblem(Problem.of(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Go back to checkpoint ${step}?`} onClose={onClose}>
      <p className="text-sm">
        The files become again what they were then. What they are now is kept as a checkpoint before, so this
        can be undone the same way. The conversation stays.
      </p>
      {problem && <ProblemBox error={problem} />}
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button look="main" data-autofocus busy={busy && 'Going back…'} onClick={() => void restore()}>
          Go back
        </Button>
      </DialogButtons>
    </Dialog>
  );
}
