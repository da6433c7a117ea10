/** What a program said, with its colours; of a long one the end first, which is what one looks for. */
import { useState } from 'react';
import { Ansi } from '../ui/Ansi';
import { buttonClass } from '../ui/Button';
import { count } from '../ui/figures';

export function Output({ text, label, most = 16 }: { text: string; label: string; most?: number }) {
  const [all, setAll] = useState(false);
  const lines = text.replace(/\s+$/, '').split('\n');
  const hidden = all ? 0 : Math.max(0, lines.length - most);
  return (
    <div className="overflow-hidden rounded-md bg-surface ring-1 ring-line ring-inset">
      {hidden > 0 && (
        <button
          type="button"
          className={`${buttonClass('quiet')} w-full rounded-none border-b border-line`}
          onClick={() => {
            setAll(true);
          }}
        >
          {count(hidden, 'line')} before
        </button>
      )}
      <pre
        tabIndex={0}
        role="group"
        aria-label={label}
        className="max-h-[60vh] overflow-auto px-3 py-1.5 font-mono text-xs leading-5 whitespace-pre-wrap"
      >
        <Ansi text={lines.slice(hidden).join('\n')} />
      </pre>
    </div>
  );
}
