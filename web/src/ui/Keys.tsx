/** A shortcut as it is written on the keys; not shown where there is no keyboard. */
const apple = /Mac|iP(hone|ad|od)/.test(navigator.userAgent);
const names: Record<string, string> = {
  mod: apple ? '⌘' : 'Ctrl',
  shift: '⇧',
  enter: '↵',
  escape: 'Esc',
  arrowdown: '↓',
  arrowup: '↑',
};

export function Keys({ keys, className = '' }: { keys: string; className?: string }) {
  return (
    <span aria-hidden className={`inline-flex gap-0.5 touch:hidden phone:hidden ${className}`}>
      {keys.split(/[ +]/).map((key, index) => (
        <kbd
          key={index}
          className="inline-grid h-[1.125rem] min-w-[1.125rem] place-items-center rounded-sm border border-current/25 px-1 font-sans text-[0.6875rem] leading-none"
        >
          {names[key] ?? (key.length === 1 ? key.toUpperCase() : key)}
        </kbd>
      ))}
    </span>
  );
}
