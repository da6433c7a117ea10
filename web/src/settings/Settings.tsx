/** What is kept in this browser, and which daemon this is. */
import { useQuery } from '@tanstack/react-query';
import { daemonQuery } from '../queries';
import { Choice } from '../ui/Field';
import { Keys } from '../ui/Keys';
import { ProblemBox } from '../ui/ProblemBox';
import { setTheme, useTheme } from '../ui/theme';
import { Moment } from '../ui/Time';
import { useAllCommands } from '../ui/commands';
import { Devices } from './Devices';
import { Notifications } from './Notifications';

export default function Settings() {
  const theme = useTheme();
  const daemon = useQuery(daemonQuery);
  return (
    <div className="mx-auto flex max-w-2xl flex-col gap-8 p-4 md:py-8">
      <h1 className="text-xl font-semibold">Settings</h1>
      <Choice
        label="Theme"
        value={theme}
        onChange={setTheme}
        options={[
          { value: 'system', label: 'As the system' },
          { value: 'light', label: 'Light' },
          { value: 'dark', label: 'Dark' },
        ]}
      />
      <Devices />
      <Notifications />
      <Keyboard />
      <section className="flex flex-col gap-2">
        <h2 className="text-sm font-medium">Daemon</h2>
        {daemon.error && <ProblemBox error={daemon.error} />}
        {daemon.data && (
          <dl className="grid grid-cols-[max-content_1fr] gap-x-6 gap-y-1 text-sm">
            <dt className="text-muted">Version</dt>
            <dd>{daemon.data.version}</dd>
            <dt className="text-muted">Runs since</dt>
            <dd>
              <Moment at={daemon.data.started_at} />
            </dd>
            <dt className="text-muted">State</dt>
            <dd className="font-mono">{daemon.data.state_dir}</dd>
            <dt className="text-muted">Previews</dt>
            <dd>{daemon.data.preview ?? 'no port was to be had'}</dd>
          </dl>
        )}
      </section>
    </div>
  );
}

/** Those of every page; each page adds its own, which `?` lists there. */
function Keyboard() {
  const commands = useAllCommands().filter((command) => command.keys !== undefined);
  return (
    <section className="flex flex-col gap-2 phone:hidden">
      <h2 className="text-sm font-medium">Keyboard</h2>
      <dl className="grid max-w-sm grid-cols-[1fr_max-content] gap-y-1 text-sm">
        {commands.map((command) => (
          <div key={command.title} className="contents">
            <dt>{command.title}</dt>
            <dd>
              <Keys keys={command.keys ?? ''} />
            </dd>
          </div>
        ))}
      </dl>
      <p className="text-sm text-muted">On each page ? lists what works there.</p>
    </section>
  );
}
