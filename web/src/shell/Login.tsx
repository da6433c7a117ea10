/**
 * Trades the one-time code in the address for a session. The code is in the fragment, which no server sees, and is
 * taken out of the address before anything else happens.
 */
import { useNavigate } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { Problem, request } from '../api';
import { live } from '../live';
import { Command } from '../ui/Command';
import { Empty } from '../ui/Empty';
import { ProblemBox } from '../ui/ProblemBox';

const code = new URLSearchParams(location.hash.slice(1)).get('code');
if (code !== null) history.replaceState(null, '', location.pathname);
/** Asked once, however often this is drawn: the code works once. */
let asked: Promise<unknown> | undefined;

export default function Login() {
  const navigate = useNavigate();
  const [problem, setProblem] = useState<Problem>();
  useEffect(() => {
    if (code === null) return;
    asked ??= request('post', '/v1/session', { body: { code } });
    asked.then(
      () => {
        live.restart();
        void navigate({ to: '/', replace: true });
      },
      (error: unknown) => {
        setProblem(Problem.of(error));
      },
    );
  }, [navigate]);
  return (
    <main>
      {code !== null && !problem ? (
        <Empty title="Signing in…" />
      ) : (
        <Empty title="You are not signed in">
          {problem && <ProblemBox error={problem} />}
          <p>A link signs in once. Run this on the machine where Offshoot runs for a new one:</p>
          <Command text="offshoot dashboard" />
        </Empty>
      )}
    </main>
  );
}
