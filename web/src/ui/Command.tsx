/** A command of the command line, to be copied: every empty state and many hints have one. */
import { useState } from 'react';

export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <span className="inline-flex max-w-full items-center gap-1 rounded-md bg-hover ring-1 ring-line ring-inset">
      <code className="px-2.5 py-1 font-mono text-sm whitespace-pre-wrap">{text}</code>
      <button
        type="button"
        className="h-7 shrink-0 rounded-md px-2 text-xs text-muted hover:text-text touch:h-11 touch:px-3"
        aria-label={`Copy ${text}`}
        onClick={() => {
          void navigator.clipboard.writeText(text).then(() => {
            setCopied(true);
            setTimeout(() => {
              setCopied(false);
            }, 1500);
          });
        }}
      >
        {copied ? 'copied' : 'copy'}
      </button>
    </span>
  );
}

/** A hint in words; what stands in backquotes is a command. */
export function Hint({ text }: { text: string }) {
  return text.split('`').map((part, index) => (index % 2 === 1 ? <Command key={index} text={part} /> : part));
}
