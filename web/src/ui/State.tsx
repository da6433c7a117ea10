/** Where a task stands: a word, and a shape that is told apart without colour. */
import type { TaskState } from '../api';

export const words: Record<TaskState, string> = {
  queued: 'queued',
  running: 'running',
  needs_attention: 'needs attention',
  idle: 'idle',
  complete: 'complete',
  failed: 'failed',
  stopped: 'stopped',
  landed: 'landed',
  discarded: 'discarded',
};

/** The accent is for what waits for a person, red for what failed; the rest is told by shape alone. */
const tones: Record<TaskState, string> = {
  queued: 'text-muted',
  running: 'text-text',
  needs_attention: 'text-accent',
  idle: 'text-muted',
  complete: 'text-text',
  failed: 'text-danger',
  stopped: 'text-muted',
  landed: 'text-muted',
  discarded: 'text-muted',
};

const ring = { fill: 'none', stroke: 'currentColor', strokeWidth: 1.75 } as const;
const drawn = { ...ring, strokeLinecap: 'round', strokeLinejoin: 'round' } as const;

const shapes: Record<TaskState, React.ReactNode> = {
  queued: <circle cx="8" cy="8" r="6" {...ring} strokeDasharray="2.2 2.5" />,
  running: (
    <>
      <circle cx="8" cy="8" r="6" {...ring} />
      <path d="M8 4.5a3.5 3.5 0 0 1 0 7z" fill="currentColor" />
    </>
  ),
  needs_attention: (
    <>
      <path d="M8 .8 15.2 8 8 15.2.8 8z" fill="currentColor" />
      <path
        d="M8 4.6v3.8M8 11v.1"
        fill="none"
        stroke="var(--color-bg)"
        strokeWidth="1.9"
        strokeLinecap="round"
      />
    </>
  ),
  idle: (
    <>
      <circle cx="8" cy="8" r="6" {...ring} />
      <path d="M6.4 5.9v4.2M9.6 5.9v4.2" {...drawn} />
    </>
  ),
  complete: (
    <>
      <circle cx="8" cy="8" r="6" {...ring} />
      <path d="m5.3 8.2 1.9 1.9 3.5-3.9" {...drawn} />
    </>
  ),
  failed: (
    <>
      <path d="M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2z" fill="currentColor" />
      <path
        d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4"
        fill="none"
        stroke="var(--color-bg)"
        strokeWidth="1.75"
        strokeLinecap="round"
      />
    </>
  ),
  stopped: (
    <>
      <circle cx="8" cy="8" r="6" {...ring} />
      <rect x="5.75" y="5.75" width="4.5" height="4.5" fill="currentColor" />
    </>
  ),
  landed: (
    <>
      <circle cx="8" cy="8" r="7" fill="currentColor" />
      <path
        d="m4.9 8.2 2.1 2.1 4-4.4"
        fill="none"
        stroke="var(--color-bg)"
        strokeWidth="1.75"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </>
  ),
  discarded: (
    <>
      <circle cx="8" cy="8" r="6" {...ring} />
      <path d="m3.9 12.1 8.2-8.2" {...drawn} />
    </>
  ),
};

/** The shape alone, where the word stands beside it already. */
export function StateShape({ state, className = '' }: { state: TaskState; className?: string }) {
  return (
    <svg viewBox="0 0 16 16" aria-hidden className={`size-3.5 shrink-0 ${tones[state]} ${className}`}>
      {shapes[state]}
    </svg>
  );
}

export function StateWord({ state }: { state: TaskState }) {
  return (
    <span className="inline-flex items-center gap-1.5 whitespace-nowrap">
      <StateShape state={state} />
      <span className={tones[state]}>{words[state]}</span>
    </span>
  );
}
