/**
 * A task's timeline: its runs one after another, read from the end, with what it does now below and the next prompt
 * under it. Nothing moves while one reads: only who is at the end is taken along.
 */
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useMemo, useRef, useState } from 'react';
import { Button, buttonClass } from '../ui/Button';
import { useCommands } from '../ui/commands';
import { inputClass } from '../ui/Field';
import { count } from '../ui/figures';
import { Menu } from '../ui/Menu';
import { ProblemBox } from '../ui/ProblemBox';
import { Composer } from './Composer';
import { useThisTask } from './context';
import type { Item, Kind } from './fold';
import { useLog } from './log';
import { Raw } from './Raw';
import { Opened, Row } from './Row';
import { filters, isOpen, newestTurn, rows } from './rows';

/** A line without anything below; most are. */
const LINE_PX = 27;
/** So near the end one is at it. */
const NEAR_PX = 60;
/** So near the beginning the next page is read. */
const EARLY_PX = 600;

export default function Timeline() {
  const { task } = useThisTask();
  // What is open, searched and chosen belongs to one task.
  return <OfTask key={task.id} />;
}

function OfTask() {
  const { task } = useThisTask();
  const [log, { items, entries, whole, reading, problem }] = useLog(task.id);
  const [query, setQuery] = useState('');
  const [kinds, setKinds] = useState<ReadonlySet<Kind>>();
  const [open, setOpen] = useState<ReadonlyMap<string, boolean>>(new Map());
  const [raw, setRaw] = useState(false);
  const [opened] = useState(() => new Map<string, boolean>());
  const search = useRef<HTMLInputElement>(null);
  const state = task.runs.at(-1)?.state;
  const running =
    state === 'preparing' || state === 'working' || state === 'checking' || state === 'harvesting';
  const shown = useMemo(
    () => (items === undefined ? undefined : rows(items, { kinds, query, open })),
    [items, kinds, query, open],
  );
  const newest = useMemo(() => (items === undefined ? undefined : newestTurn(items)), [items]);
  const fold = (turn: string, to: boolean) => {
    setOpen((known) => new Map(known).set(turn, to));
  };
  const foldAll = (to: boolean) => {
    setOpen(new Map((items ?? []).flatMap((item) => (item.is === 'turn' ? [[item.turn, to] as const] : []))));
  };
  const toggle = (chosen: readonly Kind[]) => {
    const next = new Set(kinds);
    const has = chosen.every((kind) => next.has(kind));
    for (const kind of chosen) {
      if (has) next.delete(kind);
      else next.add(kind);
    }
    setKinds(next.size > 0 ? next : undefined);
  };
  useCommands([
    {
      title: 'Find in the timeline',
      group: 'Timeline',
      keys: '/',
      run: () => {
        search.current?.focus();
      },
    },
    {
      title: 'Open all turns',
      group: 'Timeline',
      run: () => {
        foldAll(true);
      },
    },
    {
      title: 'Fold all turns',
      group: 'Timeline',
      run: () => {
        foldAll(false);
      },
    },
    {
      title: raw ? 'Timeline in words' : 'Raw events',
      group: 'Timeline',
      run: () => {
        setRaw(!raw);
      },
    },
  ]);

  return (
    <Opened value={opened}>
      <div className="flex h-0 min-h-80 grow flex-col">
        <div
          role="search"
          className="flex shrink-0 items-center gap-2 border-b border-line px-4 py-1.5 md:px-6"
        >
          <input
            ref={search}
            type="search"
            aria-label="Find in the timeline"
            placeholder="Find in the timeline"
            value={query}
            onChange={(event) => {
              setQuery(event.target.value);
            }}
            onKeyDown={(event) => {
              if (event.key !== 'Escape') return;
              setQuery('');
              event.currentTarget.blur();
            }}
            className={`${inputClass} h-7 max-w-64 min-w-0 touch:h-11`}
          />
          {query.trim() !== '' && shown && (
            <span role="status" className="text-xs whitespace-nowrap text-muted">
              {count(shown.length, 'line')}
            </span>
          )}
          {query.trim() !== '' && !whole && (
            <Button busy={reading && 'Reading…'} onClick={() => void log.all()}>
              Load all
            </Button>
          )}
          <span className="grow" />
          <Menu
            trigger={
              <Button look="quiet">
                {kinds === undefined
                  ? 'Everything'
                  : filters
                      .filter((filter) => filter.kinds.every((kind) => kinds.has(kind)))
                      .map((filter) => filter.title)
                      .join(', ')}
                <Caret />
              </Button>
            }
            items={[
              {
                title: 'Everything',
                checked: kinds === undefined,
                run: () => {
                  setKinds(undefined);
                },
              },
              ...filters.map((filter) => ({
                title: filter.title,
                checked: filter.kinds.every((kind) => kinds?.has(kind) ?? false),
                run: () => {
                  toggle(filter.kinds);
                },
              })),
            ]}
          />
          <Button
            look="quiet"
            aria-pressed={raw}
            className={raw ? 'bg-chosen text-text' : ''}
            onClick={() => {
              setRaw(!raw);
            }}
          >
            Raw
          </Button>
        </div>
        {raw ? (
          <Raw
            entries={entries}
            query={query}
            whole={whole}
            reading={reading}
            onOlder={() => void log.older()}
          />
        ) : shown === undefined ? (
          <div className="grow p-4 md:px-6">
            {problem ? (
              <ProblemBox error={problem}>
                <Again
                  onClick={() => {
                    log.retry();
                  }}
                />
              </ProblemBox>
            ) : (
              <p className="text-sm text-muted">Reading what happened…</p>
            )}
          </div>
        ) : (
          <List
            // Another choice is another list: it begins at its end.
            key={`${query.trim() === '' ? '' : 'found'}${[...(kinds ?? [])].join()}`}
            rows={shown}
            total={items?.length ?? 0}
            whole={whole}
            reading={reading}
            problem={problem}
            onOlder={() => void log.older()}
            onAgain={() => {
              log.retry();
            }}
            nothing={
              query.trim() !== ''
                ? 'Nothing here has these words.'
                : kinds
                  ? 'Nothing of this kind happened yet.'
                  : 'Nothing happened yet.'
            }
            row={(item) => (
              <Row
                item={item}
                task={task.id}
                open={item.is === 'turn' && isOpen(item.turn, newest, { kinds, query, open })}
                running={running}
                onFold={fold}
              />
            )}
          />
        )}
        <Composer />
      </div>
    </Opened>
  );
}

function Caret() {
  return (
    <svg viewBox="0 0 14 14" aria-hidden className="size-3">
      <path
        d="M3.5 5.5 7 9l3.5-3.5"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
        strokeLinecap="round"
      />
    </svg>
  );
}

function Again({ onClick }: { onClick: () => void }) {
  return (
    <Button className="mt-2" onClick={onClick}>
      Try again
    </Button>
  );
}

/** A long list of which only what can be seen is drawn. */
function List({
  rows,
  total,
  whole,
  reading,
  problem,
  onOlder,
  onAgain,
  nothing,
  row,
}: {
  rows: readonly Item[];
  /** Of how many items they were chosen. */
  total: number;
  whole: boolean;
  reading: boolean;
  problem: Error | undefined;
  onOlder: () => void;
  onAgain: () => void;
  nothing: string;
  row: (item: Item) => React.ReactNode;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  // eslint-disable-next-line react-hooks/incompatible-library -- what it gives is used in this component only
  const list = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_PX,
    getItemKey: (index) => rows[index]?.key ?? index,
    overscan: 12,
    paddingStart: 12,
    paddingEnd: 12,
    anchorTo: 'end',
    followOnAppend: true,
    scrollEndThreshold: NEAR_PX,
  });
  const [atEnd, setAtEnd] = useState(true);
  const [seen, setSeen] = useState(rows.length);
  if (atEnd && seen !== rows.length) setSeen(rows.length);
  const fresh = atEnd ? 0 : Math.max(0, rows.length - seen);

  const begun = useRef(false);
  useEffect(() => {
    if (begun.current || rows.length === 0) return;
    begun.current = true;
    list.scrollToEnd();
  }, [list, rows.length]);

  // What was read at the beginning is not new; it only makes the list longer.
  const first = rows[0]?.key;
  const [was, setWas] = useState({ first, total: rows.length });
  if (was.first !== first) {
    setSeen(seen + Math.max(0, rows.length - was.total));
    setWas({ first, total: rows.length });
  } else if (was.total !== rows.length) setWas({ first, total: rows.length });

  const short = !whole && !reading && problem === undefined;
  const early = () => {
    const at = scroller.current;
    if (at && short && at.scrollTop < EARLY_PX) onOlder();
  };
  // A choice of which little is on the pages that were read: reads on until it fills the place.
  useEffect(early, [total, short]); // eslint-disable-line react-hooks/exhaustive-deps -- `early` is made of these

  useCommands([
    {
      title: 'The newest',
      group: 'Timeline',
      keys: 'shift+g',
      keyOnly: true,
      run: () => {
        list.scrollToEnd();
      },
    },
    {
      title: 'The beginning',
      group: 'Timeline',
      keys: 'g g',
      keyOnly: true,
      run: () => {
        list.scrollToOffset(0);
      },
    },
  ]);

  return (
    <div className="relative flex min-h-0 grow flex-col">
      <div
        ref={scroller}
        tabIndex={0}
        role="region"
        aria-label="Timeline"
        data-timeline
        className="min-h-0 grow overflow-y-auto overscroll-contain px-4 [overflow-anchor:none] focus-visible:-outline-offset-2 md:px-6"
        onScroll={() => {
          const at = scroller.current;
          if (!at) return;
          setAtEnd(at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_PX);
          early();
        }}
      >
        <p role="status" className="sr-only">
          {reading ? 'Reading what was before' : ''}
        </p>
        {problem && (
          <div className="sticky top-2 z-10 max-w-4xl">
            <ProblemBox error={problem}>
              <Again onClick={onAgain} />
            </ProblemBox>
          </div>
        )}
        {rows.length === 0 && (
          <p className="py-8 text-sm text-muted">{reading ? 'Reading what was before…' : nothing}</p>
        )}
        <div className="relative max-w-4xl" style={{ height: rows.length === 0 ? 0 : list.getTotalSize() }}>
          {list.getVirtualItems().map((place) => {
            const item = rows[place.index];
            return (
              item && (
                <div
                  key={place.key}
                  ref={list.measureElement}
                  data-index={place.index}
                  data-item={item.is}
                  className="absolute inset-x-0 top-0"
                  style={{ transform: `translateY(${place.start}px)` }}
                >
                  {row(item)}
                </div>
              )
            );
          })}
        </div>
      </div>
      {!atEnd && (
        <button
          type="button"
          className={`${buttonClass('plain')} absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full shadow-raised ${fresh > 0 ? 'font-medium text-accent' : 'text-muted'}`}
          onClick={() => {
            list.scrollToEnd();
          }}
        >
          <span aria-live="polite">{fresh > 0 ? `${fresh.toLocaleString('en')} new` : 'To the newest'}</span>
          <svg viewBox="0 0 14 14" aria-hidden className="size-3">
            <path
              d="M7 2v9m-4-4 4 4 4-4"
              fill="none"
              stroke="currentColor"
              strokeWidth="1.5"
              strokeLinecap="round"
            />
          </svg>
        </button>
      )}
    </div>
  );
}
