/** Says, calmly, when what is shown may be old. While all is well it says nothing. */
import { useConnection } from '../live';
import { Elapsed } from '../ui/Time';

export function ConnectionState() {
  const connection = useConnection();
  return (
    <div role="status" className="px-1 text-sm text-muted">
      {connection.is === 'reconnecting' && (
        <span className="fade-in">
          Reconnecting…{' '}
          <span className="phone:hidden">
            what you see is <Elapsed since={connection.since} /> old
          </span>
        </span>
      )}
    </div>
  );
}
