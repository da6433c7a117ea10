/** Gives the comments to the agent, all at once, with what else is to be said. */
import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { request } from '../api';
import { useThisTask } from '../task/context';
import { Button } from '../ui/Button';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { TextArea } from '../ui/Field';
import { count } from '../ui/figures';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine, safe } from '../ui/text';
import { say } from '../ui/toasts';
import type { CommentView } from './anchor';

export function SendBack({
  comments,
  onRemove,
  onClose,
  onSent,
}: {
  comments: readonly CommentView[];
  onRemove: (comment: CommentView) => void;
  onClose: () => void;
  onSent: () => void;
}) {
  const { task } = useThisTask();
  const [text, setText] = useState('');
  const drafts = comments.filter(({ comment }) => comment.sent == null);
  const send = useMutation({
    mutationFn: async () => {
      const path = { task: task.id };
      if (drafts.length === 0)
        await request('post', '/v1/tasks/{task}/runs', { path, query: {}, body: { prompt: text.trim() } });
      else
        await request('post', '/v1/tasks/{task}/comments/send', {
          path,
          query: {},
          body: { text: text.trim() === '' ? null : text.trim() },
        });
    },
    onSuccess: () => {
      say(drafts.length > 0 ? `${count(drafts.length, 'comment')} sent.` : 'Sent.');
      onSent();
    },
  });
  const ready = drafts.length > 0 || text.trim() !== '';
  const go = () => {
    if (ready && !send.isPending) send.mutate();
  };
  return (
    <Dialog
      title={drafts.length > 0 ? `Send ${count(drafts.length, 'comment')}` : 'Send back'}
      onClose={onClose}
      wide
    >
      {drafts.length > 0 ? (
        <ol className="flex max-h-[40vh] flex-col divide-y divide-line overflow-y-auto rounded-md ring-1 ring-line ring-inset">
          {drafts.map((view) => (
            <li key={view.comment.number} className="flex items-start gap-2 px-3 py-2 text-sm">
              <div className="min-w-0 grow">
                <p className="truncate font-mono text-xs text-muted">
                  {oneLine(view.path)}:{view.line_now ?? view.comment.line}
                  {view.stale && ' (stale)'}
                </p>
                <p className="whitespace-pre-wrap">{safe(view.comment.text)}</p>
              </div>
              <Button
                look="quiet"
                aria-label={`Remove comment ${view.comment.number}`}
                onClick={() => {
                  onRemove(view);
                }}
              >
                Remove
              </Button>
            </li>
          ))}
        </ol>
      ) : (
        <p className="text-sm text-muted">
          There are no comments. Press a line’s number to make one, or say here what is to be done.
        </p>
      )}
      <TextArea
        label={drafts.length > 0 ? 'What else' : 'What is to be done'}
        about="The agent goes on where it was, on the same branch."
        data-autofocus
        value={text}
        onChange={(event) => {
          setText(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) go();
        }}
      />
      {send.error && <ProblemBox error={send.error} />}
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="main"
          keys="mod+enter"
          disabled={!ready}
          busy={send.isPending && 'Sending…'}
          onClick={go}
        >
          Send
        </Button>
      </DialogButtons>
    </Dialog>
  );
}
