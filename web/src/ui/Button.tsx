import type { ButtonHTMLAttributes } from 'react';
import { Keys } from './Keys';

const looks = {
  /** The one main thing to do here. */
  main: 'bg-accent text-on-accent hover:opacity-90 font-medium',
  /** What throws something away. */
  danger: 'bg-danger text-on-danger hover:opacity-90 font-medium',
  /** Everything else. */
  plain: 'bg-surface text-text ring-1 ring-inset ring-line hover:bg-hover',
  /** In rows and bars. */
  quiet: 'text-muted hover:text-text hover:bg-hover',
};

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: keyof typeof looks;
  /** The shortcut, shown beside. */
  keys?: string;
  /** What is being waited for; the button then does nothing. */
  busy?: string | false | undefined;
}

/** How a link looks that is a button to the eye. */
export function buttonClass(look: keyof typeof looks = 'plain'): string {
  return `inline-flex h-7 touch:h-11 shrink-0 items-center justify-center gap-1.5 rounded-md px-2.5 touch:px-4 text-sm whitespace-nowrap select-none disabled:cursor-default disabled:opacity-50 ${looks[look]}`;
}

export function Button({ look = 'plain', keys, busy, className = '', children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      disabled={rest.disabled === true || Boolean(busy)}
      aria-busy={busy ? true : undefined}
      className={`${buttonClass(look)} ${className}`}
    >
      {busy === undefined || busy === false ? children : busy}
      {keys !== undefined && !busy && <Keys keys={keys} />}
    </button>
  );
}
