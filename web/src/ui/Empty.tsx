import type { ReactNode } from 'react';

/** Nothing is here: why, and what to do. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="mx-auto flex max-w-xl flex-col items-center gap-3 px-4 py-16 text-center text-muted">
      <h2 className="text-lg font-medium text-text">{title}</h2>
      {children}
    </div>
  );
}
