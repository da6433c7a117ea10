import { Command } from '../ui/Command';
import { Empty } from '../ui/Empty';

/** Nobody is signed in in this browser: only a person at the machine can change that. */
export function SignedOut() {
  return (
    <main>
      <Empty title="You are not signed in">
        <p>Run this on the machine where Offshoot runs; it opens the dashboard and signs you in:</p>
        <Command text="offshoot dashboard" />
      </Empty>
    </main>
  );
}
