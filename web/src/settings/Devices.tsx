/** The browsers that are let in, and how to send one away. */
import { queryOptions, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Problem, request, type Schemas } from '../api';
import { Button } from '../ui/Button';
import { Command } from '../ui/Command';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { ProblemBox } from '../ui/ProblemBox';
import { oneLine } from '../ui/text';
import { Moment } from '../ui/Time';
import { say } from '../ui/toasts';

const devicesQuery = queryOptions({
  queryKey: ['devices'],
  queryFn: ({ signal }) => request('get', '/v1/devices', { signal }),
});

export function Devices() {
  const list = useQuery(devicesQuery);
  const [revoking, setRevoking] = useState<Schemas['DeviceView']>();
  return (
    <section className="flex flex-col gap-2">
      <h2 className="text-sm font-medium">Devices</h2>
      {list.error && <ProblemBox error={list.error} />}
      {list.data && (
        <>
          {list.data.devices.length === 0 ? (
            <p className="text-sm text-muted">No browser is logged in by a link.</p>
          ) : (
            <ul className="divide-y divide-line border-y border-line">
              {list.data.devices.map((device) => (
                <li key={device.id} className="flex items-center gap-3 py-2 text-sm">
                  <div className="min-w-0 grow">
                    <p>
                      <span className="font-medium">{oneLine(device.name)}</span>
                      {device.current && <span className="ml-2 text-accent">this one</span>}
                    </p>
                    <p className="text-muted">
                      {oneLine(device.address)} · since <Moment at={device.since} /> · seen{' '}
                      <Moment at={device.last_seen_at} />
                    </p>
                  </div>
                  <Button
                    onClick={() => {
                      setRevoking(device);
                    }}
                  >
                    {device.current ? 'Log out…' : 'Revoke…'}
                  </Button>
                </li>
              ))}
            </ul>
          )}
          <p className="text-sm text-muted">
            A phone is let in by a code that only this machine shows: <Command text="offshoot pair" />
          </p>
          {list.data.fingerprint != null && (
            <p className="text-sm text-muted">
              The certificate that your phone is shown has the SHA-256 fingerprint{' '}
              <code className="font-mono text-xs break-all">{oneLine(list.data.fingerprint)}</code>
            </p>
          )}
        </>
      )}
      {revoking && (
        <Revoke
          device={revoking}
          onClose={() => {
            setRevoking(undefined);
          }}
        />
      )}
    </section>
  );
}

function Revoke({ device, onClose }: { device: Schemas['DeviceView']; onClose: () => void }) {
  const client = useQueryClient();
  const revoke = useMutation({
    mutationFn: () => request('post', '/v1/devices/{device}/revoke', { path: { device: device.id } }),
    onSuccess: () => {
      say(`${oneLine(device.name)} is logged out.`);
      onClose();
      return client.invalidateQueries({ queryKey: ['devices'] });
    },
  });
  return (
    <Dialog title={`Log ${device.current ? 'this browser' : oneLine(device.name)} out?`} onClose={onClose}>
      <p className="text-sm">
        All that it has open ends at once: pages, streams and terminals. Nothing else is lost.
        {device.current && ' You will need a new link to come back.'}
      </p>
      {revoke.error && <ProblemBox error={Problem.of(revoke.error)} />}
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="danger"
          data-autofocus
          busy={revoke.isPending && 'Logging out…'}
          onClick={() => {
            revoke.mutate();
          }}
        >
          {device.current ? 'Log out' : 'Revoke'}
        </Button>
      </DialogButtons>
    </Dialog>
  );
}
