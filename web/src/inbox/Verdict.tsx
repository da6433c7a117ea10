/** What became of an approval, as a shape with a word for those who listen. */
import type { Schemas } from '../api';

const line = {
  fill: 'none',
  stroke: 'currentColor',
  strokeWidth: 1.75,
  strokeLinecap: 'round',
  strokeLinejoin: 'round',
} as const;

export function Verdict({ state }: { state: Schemas['ApprovalState'] }) {
  return (
    <svg
      viewBox="0 0 16 16"
      role="img"
      aria-label={state}
      className={`mt-0.75 size-3.5 shrink-0 ${state === 'denied' || state === 'expired' ? 'text-danger' : 'text-muted'}`}
    >
      {state === 'allowed' && <path d="m3 8.5 3.2 3.2L13 4.6" {...line} />}
      {(state === 'denied' || state === 'expired') && <path d="m4 4 8 8m0-8-8 8" {...line} />}
      {state === 'withdrawn' && <path d="M3 8h10" {...line} />}
      {state === 'waiting' && <circle cx="8" cy="8" r="5" {...line} />}
    </svg>
  );
}
