/** Events as they are in the log, for the curious. */
import { useVirtualizer } from '@tanstack/react-virtual';
import { useDeferredValue, useMemo, useRef } from 'react';
import type { Entry } from '../api';
import { Button } from '../ui/Button';
import { safe } from '../ui/text';
import { say } from '../ui/toasts';

export function Raw({
  entries,
  query,
  whole,
  reading,
  onOlder,
}: {
  entries: readonly Entry[];
  query: string;
  whole: boolean;
  reading: boolean;
  onOlder: () => void;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  const words = useDeferredValue(query.trim().toLowerCase());
  const shown = useMemo(
    () =>
      words === '' ? entries : entries.filter((entry) => JSON.stringify(entry).toLowerCase().includes(words)),
    [entries, words],
  );
  // eslint-disable-next-line react-hooks/incompatible-library -- what it gives is used in this component only
  const list = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 40,
    getItemKey: (index) => shown[index]?.seq ?? index,
    overscan: 10,
    anchorTo: 'end',
    followOnAppend: true,
    scrollEndThreshold: 60,
  });
  return (
    <div
      ref={scroller}
      tabIndex={0}
      role="region"
      aria-label="Raw events"
      className="min-h-0 grow overflow-y-auto px-4 py-2 [overflow-anchor:none] focus-visible:-outline-offset-2 md:px-6"
    >
      <div className="flex items-center gap-2 pb-2 text-sm text-muted">
        {!whole && (
          <Button busy={reading && 'Reading…'} onClick={onOlder}>
            Read earlier events
          </Button>
        )}
        <Button
          look="quiet"
          onClick={() => {
            const text = shown.map((entry) => JSON.stringify(entry)).join('\n');
            void navigator.clipboard.writeText(text).then(() => {
              say('The events are copied, one a line.');
            });
          }}
        >
          Copy as JSON lines
        </Button>
      </div>
      <div className="relative" style={{ height: list.getTotalSize() }}>
        {list.getVirtualItems().map((place) => {
          const entry = shown[place.index];
          return (
            entry && (
              <pre
                key={place.key}
                ref={list.measureElement}
                data-index={place.index}
                className="absolute inset-x-0 top-0 border-b border-line py-1 font-mono text-xs leading-5 whitespace-pre-wrap"
                style={{ transform: `translateY(${place.start}px)` }}
              >
                <span className="text-muted">{entry.seq} </span>
                {safe(JSON.stringify(entry.event))}
              </pre>
            )
          );
        })}
      </div>
    </div>
  );
}
