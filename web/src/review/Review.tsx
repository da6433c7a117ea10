/** Looking at what a task did, saying what is wrong with it line by line, and landing it. */
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useCallback, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from 'react';
import { request, type Schemas } from '../api';
import { live } from '../live';
import { ask } from '../task/actions';
import { useThisTask } from '../task/context';
import { canFollowUp, canLand } from '../task/what';
import { Button } from '../ui/Button';
import { useCommands } from '../ui/commands';
import { Dialog } from '../ui/Dialog';
import { Empty } from '../ui/Empty';
import { ProblemBox } from '../ui/ProblemBox';
import { count } from '../ui/figures';
import { useRemembered } from '../ui/storage';
import { oneLine } from '../ui/text';
import { complain } from '../ui/toasts';
import { key, lineOf, type Side, type What } from './anchor';
import { Diff, type Scroller } from './Diff';
import { sections } from './patch';
import { commentsKey, commentsQuery, diffQuery, fileDiffQuery, fileTextQuery } from './query';
import type { Acts } from './Row';
import { isOpen, rows as rowsOf, type FileEntry } from './rows';
import { SendBack } from './SendBack';
import { Summary } from './Summary';
import { Toolbar } from './Toolbar';
import { inOrder, isFlagged, Tree } from './Tree';
import { fingerprint, useViewed } from './viewed';

const isLook = (value: unknown): value is 'split' | 'unified' => value === 'split' || value === 'unified';
const isFlag = (value: unknown): value is boolean => typeof value === 'boolean';
const empty = new Map<string, never>();

export default function Review() {
  const view = useThisTask();
  const [what, setWhat] = useState<What>({ is: 'all' });
  const [ignore, setIgnore] = useRemembered('review.whitespace', false, isFlag);
  const diff = useQuery({
    ...diffQuery(view, what, ignore),
    // While the next one is read, what was there stays.
    placeholderData: (before, query) => (query?.queryKey[1] === view.task.id ? before : undefined),
  });
  // Of one commit alone only that commit is told; which there are is told with the whole.
  const whole = useQuery(diffQuery(view, { is: 'all' }, ignore));
  if (diff.error && !diff.data) {
    return (
      <div className="p-4 md:px-6">
        <ProblemBox error={diff.error} />
      </div>
    );
  }
  if (!diff.data) return <p className="p-8 text-center text-sm text-muted">Reading the changes…</p>;
  return (
    <Reviewed
      // Another view of the task begins unfolded.
      key={JSON.stringify(what)}
      diff={diff.data}
      commits={whole.data?.commits ?? diff.data.commits}
      stale={diff.isPlaceholderData}
      what={what}
      onWhat={setWhat}
      ignore={ignore}
      onIgnore={setIgnore}
    />
  );
}

function Reviewed({
  diff,
  commits,
  stale,
  what,
  onWhat,
  ignore,
  onIgnore,
}: {
  diff: Schemas['DiffView'];
  /** All of the task, oldest first. */
  commits: readonly Schemas['CommitView'][];
  stale: boolean;
  what: What;
  onWhat: (what: What) => void;
  ignore: boolean;
  onIgnore: (ignore: boolean) => void;
}) {
  const view = useThisTask();
  const { task } = view;
  const client = useQueryClient();
  const [look, setLook] = useRemembered<'split' | 'unified'>('review.look', 'unified', isLook);
  const [flagged, setFlagged] = useState(false);
  const [folded, setFolded] = useState<ReadonlyMap<string, boolean>>(empty);
  const [loaded, setLoaded] = useState<ReadonlyMap<string, string>>(empty);
  const [around, setAround] =
    useState<ReadonlyMap<string, { lines: readonly string[]; gaps: ReadonlySet<number> }>>(empty);
  const [writing, setWriting] = useState<ReadonlyMap<string, ReadonlySet<string>>>(empty);
  const [pointed, setPointed] = useState<number>();
  const [current, setCurrent] = useState<string>();
  const [open, setOpen] = useState<'send' | 'files'>();
  const [scroller, setScroller] = useState<HTMLElement | null>(null);
  const handle = useRef<Scroller | null>(null);
  const { marks, mark } = useViewed(task.id);
  const comments = useQuery(commentsQuery(view));
  const narrow = useNarrow();
  const split = look === 'split' && !narrow;

  const files = useMemo((): FileEntry[] => {
    const parts = sections(diff.patch);
    const entries = diff.files.map((file) => {
      const own = file.sections ?? [];
      const text = own.map((at) => parts[at] ?? '').join('');
      const about = [file.status, file.added, file.deleted, file.new_bytes, file.old_mode, file.new_mode];
      return { file, text, print: fingerprint(`${about.join()}\n${text === '' ? diff.head : text}`) };
    });
    return inOrder(entries);
  }, [diff]);
  const meant = useMemo(() => (flagged ? files.filter(isFlagged) : files), [files, flagged]);
  const said = useMemo(() => comments.data?.comments ?? [], [comments.data]);
  const { rows, starts } = useMemo(
    () =>
      rowsOf(meant, {
        split,
        what,
        base: diff.base,
        head: diff.head,
        folded,
        viewed: marks,
        loaded,
        around,
        comments: what.is === 'step' ? [] : said,
        writing,
      }),
    [meant, split, what, diff, folded, marks, loaded, around, said, writing],
  );
  const commented = useMemo(() => {
    const counts = new Map<string, number>();
    for (const one of said) counts.set(one.path, (counts.get(one.path) ?? 0) + 1);
    return counts;
  }, [said]);

  const drafts = comments.data?.drafts ?? 0;
  const freshComments = () => client.invalidateQueries({ queryKey: commentsKey(task.id) });
  const write = (path: string, at: string, on: boolean) => {
    setWriting((before) => {
      const own = new Set(before.get(path));
      if (on) own.add(at);
      else own.delete(at);
      return new Map(before).set(path, own);
    });
  };
  const endsOf = (entry: FileEntry) =>
    diff.repositories?.find((one) => one.name === entry.file.repository) ?? diff;
  const acts: Acts = {
    fold: (entry) => {
      setFolded((before) =>
        new Map(before).set(entry.file.path, !isOpen(entry, { folded: before, viewed: marks })),
      );
    },
    view: (entry) => {
      const seen = marks[entry.file.path] === entry.print;
      mark(entry.file.path, seen ? undefined : entry.print);
      setFolded((before) => {
        const next = new Map(before);
        next.delete(entry.file.path);
        return next;
      });
    },
    load: (entry) => {
      client
        .query(fileDiffQuery(view, what, ignore, entry.file.path))
        .then(({ patch }) => {
          setLoaded((before) => new Map(before).set(entry.file.path, patch));
        })
        .catch((error: unknown) => {
          complain(error, `${oneLine(entry.file.path)} could not be read`);
        });
    },
    expand: (entry, gap) => {
      client
        .query(fileTextQuery(view, what, entry.file.path, endsOf(entry).head))
        .then(({ text }) => {
          const lines = text.split('\n');
          if (lines.at(-1) === '') lines.pop();
          setAround((before) => {
            const gaps = new Set(before.get(entry.file.path)?.gaps).add(gap);
            return new Map(before).set(entry.file.path, { lines, gaps });
          });
        })
        .catch((error: unknown) => {
          complain(error, `${oneLine(entry.file.path)} could not be read`);
        });
    },
    write:
      what.is === 'step'
        ? undefined
        : (entry, at) => {
            write(entry.file.path, at, true);
          },
    point: setPointed,
    stop: (entry, at) => {
      write(entry.file.path, at, false);
    },
    save: async (entry, at, text) => {
      const [side, line] = at.split(':');
      const { file } = entry;
      const whole = side === 'old' ? (file.old_path ?? file.path) : file.path;
      const path = file.repository == null ? whole : whole.replace(`${file.repository}/`, '');
      const ends = endsOf(entry);
      try {
        await request('post', '/v1/tasks/{task}/comments', {
          path: { task: task.id },
          query: {},
          body: {
            path,
            line: Number(line),
            side: side as Side,
            text,
            commit: side === 'old' ? ends.base : ends.head,
            ...(file.repository != null && { repository: file.repository }),
          },
        });
        await freshComments();
        write(file.path, at, false);
        return true;
      } catch (error) {
        complain(error, 'The comment was not saved');
        return false;
      }
    },
    change: async ({ comment }, text) => {
      try {
        await request('post', '/v1/tasks/{task}/comments/{comment}', {
          path: { task: task.id, comment: comment.number },
          query: {},
          body: { text },
        });
      } catch (error) {
        complain(error, 'The comment was not changed');
      }
      await freshComments();
    },
    remove: ({ comment }) => {
      request('post', '/v1/tasks/{task}/comments/{comment}/remove', {
        path: { task: task.id, comment: comment.number },
        query: {},
      })
        .catch((error: unknown) => {
          complain(error, 'The comment was not removed');
        })
        .finally(() => void freshComments());
    },
  };

  const go = (path: string) => {
    const at = starts.get(path);
    if (at !== undefined) handle.current?.scrollToIndex(at, { align: 'start' });
    setCurrent(path);
    if (open === 'files') setOpen(undefined);
  };
  const stepFile = (by: number) => {
    const at = meant.findIndex(({ file }) => file.path === current);
    const next = meant[Math.min(Math.max(at + by, 0), meant.length - 1)];
    if (next) go(next.file.path);
  };
  const isLine = (index: number) => rows[index]?.is === 'line' || rows[index]?.is === 'pair';
  const stepLine = (by: number) => {
    const visible = handle.current?.getVirtualItems() ?? [];
    const offset = handle.current?.scrollOffset ?? 0;
    let at = pointed ?? (visible.find((item) => item.start >= offset)?.index ?? 0) - by;
    for (at += by; at >= 0 && at < rows.length; at += by) if (isLine(at)) break;
    if (!isLine(at)) return;
    setPointed(at);
    handle.current?.scrollToIndex(at, { align: 'auto' });
  };
  const writeHere = () => {
    const row = pointed === undefined ? undefined : rows[pointed];
    const line =
      row?.is === 'line' ? row.line : row?.is === 'pair' ? (row.pair.right ?? row.pair.left) : undefined;
    if (!row || !line) return;
    const at = lineOf(line);
    acts.write?.(row.file, key(at.side, at.line));
  };
  const withCurrent = (act: (entry: FileEntry) => void) => () => {
    const entry = meant.find(({ file }) => file.path === current) ?? meant[0];
    if (entry) act(entry);
  };
  const stepCommit = (by: number) => {
    const all: What[] = [{ is: 'all' }, ...commits.map(({ commit }) => ({ is: 'commit' as const, commit }))];
    if (what.is !== 'all' && all.length === 1) return;
    const at = all.findIndex((one) => JSON.stringify(one) === JSON.stringify(what));
    const next = all[at + by];
    if (next) onWhat(next);
  };
  useCommands([
    {
      title: 'Next line',
      group: 'Review',
      keys: 'j',
      also: ['arrowdown'],
      keyOnly: true,
      run: () => {
        stepLine(1);
      },
    },
    {
      title: 'Previous line',
      group: 'Review',
      keys: 'k',
      also: ['arrowup'],
      keyOnly: true,
      run: () => {
        stepLine(-1);
      },
    },
    {
      title: 'Comment on the line',
      group: 'Review',
      keys: 'm',
      also: ['enter'],
      keyOnly: true,
      run: writeHere,
    },
    {
      title: 'Next file',
      group: 'Review',
      keys: ']',
      keyOnly: true,
      run: () => {
        stepFile(1);
      },
    },
    {
      title: 'Previous file',
      group: 'Review',
      keys: '[',
      keyOnly: true,
      run: () => {
        stepFile(-1);
      },
    },
    {
      title: 'Next commit',
      group: 'Review',
      keys: '.',
      keyOnly: true,
      run: () => {
        stepCommit(1);
      },
    },
    {
      title: 'Previous commit',
      group: 'Review',
      keys: ',',
      keyOnly: true,
      run: () => {
        stepCommit(-1);
      },
    },
    {
      title: 'Viewed',
      group: 'Review',
      keys: 'v',
      run: withCurrent((entry) => {
        acts.view(entry);
        stepFile(1);
      }),
    },
    { title: 'Fold or unfold the file', group: 'Review', keys: 'o', run: withCurrent(acts.fold) },
    {
      title: 'Side by side or unified',
      group: 'Review',
      keys: 'u',
      run: () => {
        setLook(look === 'split' ? 'unified' : 'split');
      },
    },
    {
      title: 'Ignore or show whitespace',
      group: 'Review',
      keys: 'w',
      run: () => {
        onIgnore(!ignore);
      },
    },
    {
      title: 'Send the comments',
      group: 'Review',
      keys: 'shift+s',
      run: () => {
        setOpen('send');
      },
    },
  ]);

  const scrollerRef = useCallback(
    (element: HTMLDivElement | null) => {
      setScroller(narrow ? (element?.closest<HTMLElement>('[data-scroll]') ?? null) : element);
    },
    [narrow],
  );
  const treeOf = <Tree files={meant} viewed={marks} current={current} commented={commented} onGo={go} />;
  const row = pointed === undefined ? undefined : rows[pointed];
  return (
    <div data-own-scroll className="flex min-h-0 grow flex-col">
      <Toolbar
        diff={diff}
        commits={commits}
        what={what}
        onWhat={onWhat}
        split={look === 'split'}
        onSplit={(next) => {
          setLook(next ? 'split' : 'unified');
        }}
        ignore={ignore}
        onIgnore={onIgnore}
        flagged={flagged}
        flaggedCount={files.filter(isFlagged).length}
        onFlagged={setFlagged}
        drafts={drafts}
        onSend={() => {
          setOpen('send');
        }}
        onFiles={() => {
          setOpen('files');
        }}
        busy={stale}
      />
      <div className="flex min-h-0 grow">
        {!narrow && files.length > 0 && (
          <aside aria-label="Files" className="w-64 shrink-0 border-r border-line lg:w-72">
            {treeOf}
          </aside>
        )}
        <div
          ref={scrollerRef}
          tabIndex={-1}
          className="min-w-0 grow outline-none md:overflow-y-auto md:px-4 md:pb-4"
          data-diff
        >
          <Summary
            diff={diff}
            files={files}
            what={what}
            onFlagged={() => {
              setFlagged(true);
            }}
            onLand={() => {
              ask('land', [view]);
            }}
          />
          {files.length === 0 ? (
            <Empty title="Nothing is changed here">
              <p>
                {what.is === 'all'
                  ? 'The task has changed nothing against its base, so far.'
                  : 'This step changed no file.'}
              </p>
            </Empty>
          ) : (
            scroller && (
              <Diff
                rows={rows}
                loaded={loaded}
                split={split}
                pointed={pointed}
                acts={acts}
                scroller={scroller}
                handle={handle}
                onTop={setCurrent}
              />
            )
          )}
        </div>
      </div>
      {narrow && (
        <div className="sticky bottom-0 z-10 flex gap-2 border-t border-line bg-raised p-2">
          {acts.write && row && (row.is === 'line' || row.is === 'pair') ? (
            <>
              <Button
                onClick={() => {
                  setPointed(undefined);
                }}
              >
                Cancel
              </Button>
              <Button look="main" className="grow" onClick={writeHere}>
                Comment on this line
              </Button>
            </>
          ) : (
            <>
              {(canFollowUp(view) || drafts > 0) && (
                <Button
                  className="grow"
                  onClick={() => {
                    setOpen('send');
                  }}
                >
                  {drafts > 0 ? `Send ${count(drafts, 'comment')}…` : 'Send back…'}
                </Button>
              )}
              {canLand(view) && (
                <Button
                  look="main"
                  className="grow"
                  onClick={() => {
                    ask('land', [view]);
                  }}
                >
                  Land…
                </Button>
              )}
            </>
          )}
        </div>
      )}
      {open === 'send' && (
        <SendBack
          comments={said}
          onRemove={acts.remove}
          onClose={() => {
            setOpen(undefined);
          }}
          onSent={() => {
            setOpen(undefined);
            live.reread(task.id);
            void freshComments();
          }}
        />
      )}
      {open === 'files' && (
        <FilesSheet
          onClose={() => {
            setOpen(undefined);
          }}
        >
          {treeOf}
        </FilesSheet>
      )}
    </div>
  );
}

function FilesSheet({ onClose, children }: { onClose: () => void; children: ReactNode }) {
  return (
    <Dialog title="Files" onClose={onClose} bare>
      <div className="h-[70vh]">{children}</div>
    </Dialog>
  );
}

const phone = matchMedia('(width < 48rem)');
function useNarrow(): boolean {
  return useSyncExternalStore(
    (listener) => {
      phone.addEventListener('change', listener);
      return () => {
        phone.removeEventListener('change', listener);
      };
    },
    () => phone.matches,
  );
}
