/** Everything that can be done and every task, found by typing. */
import { useNavigate } from '@tanstack/react-router';
import { Command } from 'cmdk';
import { useTasks } from '../live';
import { useAllCommands } from './commands';
import { Dialog } from './Dialog';
import { Keys } from './Keys';
import { StateShape, words } from './State';
import { oneLine } from './text';

const itemClass =
  'flex h-9 touch:h-11 cursor-default items-center gap-2 rounded-md px-2.5 text-sm data-[selected=true]:bg-chosen';

export default function Palette({ onClose }: { onClose: () => void }) {
  const commands = useAllCommands();
  const tasks = useTasks() ?? [];
  const navigate = useNavigate();
  const groups = [...new Set(commands.map((command) => command.group))];
  const act = (run: () => void) => () => {
    onClose();
    // After the dialog gave the focus back, so that what the command focuses keeps it.
    setTimeout(run, 0);
  };
  return (
    <Dialog title="Commands" onClose={onClose} wide bare>
      <Command loop label="Commands">
        <Command.Input
          data-autofocus
          placeholder="Find a task or a command"
          className="h-12 w-full border-b border-line bg-transparent px-4 text-base outline-none phone:text-[1rem]"
        />
        <Command.List className="max-h-[50vh] overflow-y-auto p-1.5 [&_[cmdk-group-heading]]:px-2.5 [&_[cmdk-group-heading]]:pt-2 [&_[cmdk-group-heading]]:pb-1 [&_[cmdk-group-heading]]:text-xs [&_[cmdk-group-heading]]:text-muted">
          <Command.Empty className="p-6 text-center text-sm text-muted">
            Nothing is called that.
          </Command.Empty>
          {groups.map((group) => (
            <Command.Group key={group} heading={group}>
              {commands
                .filter((command) => command.group === group && !command.keyOnly)
                .map((command) => (
                  <Command.Item
                    key={command.title}
                    value={`${group} ${command.title}`}
                    onSelect={act(command.run)}
                    className={itemClass}
                  >
                    <span className="grow">{command.title}</span>
                    {command.keys !== undefined && <Keys keys={command.keys} className="text-muted" />}
                  </Command.Item>
                ))}
            </Command.Group>
          ))}
          <Command.Group heading="Tasks">
            {tasks.map(({ task }) => (
              <Command.Item
                key={task.id}
                value={`${task.name} ${task.id}`}
                keywords={[words[task.state], task.agent ?? '']}
                onSelect={act(() => void navigate({ to: '/tasks/$task', params: { task: task.id } }))}
                className={itemClass}
              >
                <StateShape state={task.state} />
                <span className="grow truncate">{oneLine(task.name)}</span>
                <span className="text-xs text-muted">{words[task.state]}</span>
              </Command.Item>
            ))}
          </Command.Group>
        </Command.List>
      </Command>
    </Dialog>
  );
}
