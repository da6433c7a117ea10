/** Text of an agent, as it is, in full up to some lines; more of it on request. */
import { useState } from 'react';
import { count } from '../ui/figures';
import { safe } from '../ui/text';

/** What one reads before one answers. */
const LINES = 24;
const CHARS = 3_000;

export function Clipped({ text, label, strong = false }: { text: string; label: string; strong?: boolean }) {
  const [all, setAll] = useState(false);
  const whole = safe(text);
  const lines = whole.split('\n');
  const short = lines.slice(0, LINES).join('\n').slice(0, CHARS);
  const left = short.length < whole.length;
  return (
    <div className="mt-2">
      <pre
        aria-label={label}
        className={`rounded-md px-3 py-2 font-mono text-sm break-words whitespace-pre-wrap ${strong ? 'bg-hover' : 'text-muted ring-1 ring-line ring-inset'}`}
      >
        {all ? whole : short}
        {!all && left && '…'}
      </pre>
      {left && (
        <button
          type="button"
          className="mt-1 text-sm text-accent hover:underline touch:min-h-11"
          onClick={() => {
            setAll(!all);
          }}
        >
          {all ? 'Show less' : `Show all ${count(lines.length, 'line')}, ${count(whole.length, 'character')}`}
        </button>
      )}
    </div>
  );
}
