/** What went wrong, in the daemon's own words, with what to do next. */
import type { ReactNode } from 'react';
import { Problem } from '../api';
import { Hint } from './Command';
import { safe } from './text';

export function ProblemBox({ error, children }: { error: unknown; children?: ReactNode }) {
  const problem = Problem.of(error);
  return (
    <div role="alert" className="rounded-md bg-danger-soft px-3 py-2 text-sm">
      <p className="text-danger">
        <span className="font-medium">{safe(problem.message)}</span>{' '}
        <span className="text-xs">({problem.code})</span>
      </p>
      {problem.hint !== undefined && (
        <p className="mt-1">
          <Hint text={safe(problem.hint)} />
        </p>
      )}
      {problem.detail !== undefined && (
        <pre className="mt-2 max-h-60 overflow-auto font-mono text-xs whitespace-pre-wrap">
          {safe(problem.detail)}
        </pre>
      )}
      {children}
    </div>
  );
}
