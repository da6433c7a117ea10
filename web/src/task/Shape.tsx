/** Where a step of a timeline stands, as a shape: told apart without colour, said by a word for those who listen. */
const line = {
  fill: 'none',
  stroke: 'currentColor',
  strokeWidth: 1.6,
  strokeLinecap: 'round',
  strokeLinejoin: 'round',
} as const;

const shapes = {
  waits: <circle cx="7" cy="7" r="4" {...line} strokeDasharray="1.6 2" />,
  runs: (
    <>
      <circle cx="7" cy="7" r="4.5" {...line} />
      <path d="M7 4.4a2.6 2.6 0 0 1 0 5.2z" fill="currentColor" />
    </>
  ),
  done: <path d="m3.4 7.4 2.4 2.4 4.8-5.4" {...line} />,
  failed: <path d="m4 4 6 6m0-6-6 6" {...line} strokeWidth={2} />,
  asks: <path d="M7 .8 13.2 7 7 13.2.8 7z" fill="currentColor" />,
  step: (
    <>
      <path d="M7 1v3m0 6v3" {...line} />
      <circle cx="7" cy="7" r="2.6" {...line} />
    </>
  ),
  dot: <circle cx="7" cy="7" r="1.6" fill="currentColor" />,
} as const;

const tones: Record<keyof typeof shapes, string> = {
  waits: 'text-muted',
  runs: 'text-text',
  done: 'text-muted',
  failed: 'text-danger',
  asks: 'text-accent',
  step: 'text-muted',
  dot: 'text-edge',
};

export type ShapeName = keyof typeof shapes;

export function Shape({ name, label }: { name: ShapeName; label?: string }) {
  return (
    <span className={`grid h-5.5 w-4 shrink-0 place-items-center ${tones[name]}`}>
      <svg viewBox="0 0 14 14" aria-hidden className="size-3.5">
        {shapes[name]}
      </svg>
      {label !== undefined && <span className="sr-only">{label}: </span>}
    </span>
  );
}
