/** The changed files as a tree, with what was seen and what stands out. */
import { useVirtualizer } from '@tanstack/react-virtual';
import { useMemo, useRef, useState } from 'react';
import { inputClass } from '../ui/Field';
import { Lines } from '../ui/Lines';
import { oneLine } from '../ui/text';
import type { FileEntry } from './rows';

type Node =
  | { is: 'dir'; depth: number; path: string; name: string; count: number }
  | { is: 'file'; depth: number; name: string; entry: FileEntry };

/** Directories with one child only are joined with it; those in `folded` show nothing below. */
export function tree(files: readonly FileEntry[], folded: ReadonlySet<string>): Node[] {
  interface Dir {
    dirs: Map<string, Dir>;
    files: FileEntry[];
    count: number;
  }
  const make = (): Dir => ({ dirs: new Map(), files: [], count: 0 });
  const root = make();
  for (const entry of files) {
    let dir = root;
    const parts = entry.file.path.split('/');
    for (const part of parts.slice(0, -1)) {
      const below = dir.dirs.get(part) ?? make();
      dir.dirs.set(part, below);
      dir = below;
      dir.count += 1;
    }
    dir.files.push(entry);
  }
  const out: Node[] = [];
  const walk = (dir: Dir, depth: number, path: string) => {
    for (const [first, child] of [...dir.dirs].sort(([a], [b]) => (a < b ? -1 : 1))) {
      let name = first;
      let below = child;
      while (below.files.length === 0 && below.dirs.size === 1) {
        const [[part, only] = ['', make()]] = below.dirs;
        name = `${name}/${part}`;
        below = only;
      }
      const here = path === '' ? name : `${path}/${name}`;
      out.push({ is: 'dir', depth, path: here, name, count: below.count });
      if (!folded.has(here)) walk(below, depth + 1, here);
    }
    for (const entry of dir.files)
      out.push({ is: 'file', depth, name: entry.file.path.split('/').pop() ?? '', entry });
  };
  walk(root, 0, '');
  return out;
}

/** Files as the tree has them, so that both are read in the same order. */
export function inOrder(files: readonly FileEntry[]): FileEntry[] {
  return tree(files, new Set()).flatMap((node) => (node.is === 'file' ? [node.entry] : []));
}

const HEIGHT = 26;

export function Tree({
  files,
  viewed,
  current,
  commented,
  onGo,
}: {
  files: readonly FileEntry[];
  viewed: Readonly<Record<string, string>>;
  current: string | undefined;
  commented: ReadonlyMap<string, number>;
  onGo: (path: string) => void;
}) {
  const [wanted, setWanted] = useState('');
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const scroller = useRef<HTMLDivElement>(null);
  const nodes = useMemo(() => {
    const term = wanted.trim().toLowerCase();
    const meant = term === '' ? files : files.filter(({ file }) => file.path.toLowerCase().includes(term));
    return tree(meant, folded);
  }, [files, wanted, folded]);
  // eslint-disable-next-line react-hooks/incompatible-library -- drawn anew with each scroll, which is what is meant
  const list = useVirtualizer({
    count: nodes.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => HEIGHT,
    overscan: 10,
  });
  const seen = files.filter(({ file, print }) => viewed[file.path] === print).length;
  return (
    <div className="flex h-full min-h-0 flex-col">
      <div className="flex flex-col gap-1.5 p-2">
        <input
          type="search"
          aria-label="Find a file"
          placeholder="Find a file"
          value={wanted}
          onChange={(event) => {
            setWanted(event.target.value);
          }}
          className={inputClass}
        />
        <p className="px-1 text-xs text-muted">
          {seen} of {files.length} viewed
        </p>
      </div>
      <div
        ref={scroller}
        tabIndex={0}
        aria-label="Changed files"
        role="group"
        className="min-h-0 grow overflow-y-auto px-1 pb-2"
      >
        <div className="relative" style={{ height: list.getTotalSize() }}>
          {list.getVirtualItems().map((item) => {
            const node = nodes[item.index];
            if (!node) return null;
            const style = { transform: `translateY(${item.start}px)`, paddingLeft: 6 + node.depth * 12 };
            const className =
              'absolute inset-x-0 top-0 flex h-[26px] items-center gap-1.5 rounded-sm pr-1.5 text-left text-sm hover:bg-hover';
            if (node.is === 'dir') {
              const open = !folded.has(node.path);
              return (
                <button
                  key={`d${node.path}`}
                  type="button"
                  aria-expanded={open}
                  className={`${className} text-muted`}
                  style={style}
                  onClick={() => {
                    const next = new Set(folded);
                    if (!next.delete(node.path)) next.add(node.path);
                    setFolded(next);
                  }}
                >
                  <Triangle open={open} />
                  <span className="truncate">{oneLine(node.name)}</span>
                  {!open && <span className="text-xs">{node.count}</span>}
                </button>
              );
            }
            const { file, print } = node.entry;
            const isSeen = viewed[file.path] === print;
            const comments = commented.get(file.path) ?? 0;
            return (
              <button
                key={file.path}
                type="button"
                title={oneLine(file.path)}
                aria-current={current === file.path ? 'location' : undefined}
                className={`${className} aria-[current]:bg-chosen`}
                style={style}
                onClick={() => {
                  onGo(file.path);
                }}
              >
                <Status status={file.status} />
                <span
                  className={`min-w-0 grow truncate ${isSeen ? 'text-muted' : ''} ${file.status === 'D' ? 'line-through' : ''}`}
                >
                  {oneLine(node.name)}
                </span>
                {comments > 0 && (
                  <span className="text-xs text-accent">
                    {comments}
                    <span className="sr-only"> comments</span>
                  </span>
                )}
                {isFlagged(node.entry) && <Flag />}
                {isSeen ? (
                  <span className="text-xs text-muted">viewed</span>
                ) : (
                  <span className="shrink-0 text-xs">
                    <Lines of={{ added: file.added ?? 0, deleted: file.deleted ?? 0 }} />
                  </span>
                )}
              </button>
            );
          })}
        </div>
      </div>
    </div>
  );
}

export function isFlagged({ file }: FileEntry): boolean {
  return file.outside_scope === true || (file.runs_on_host ?? []).length > 0;
}

export function Triangle({ open }: { open: boolean }) {
  return (
    <svg viewBox="0 0 8 8" aria-hidden className={`size-2 shrink-0 ${open ? 'rotate-90' : ''}`}>
      <path d="M2 0.5 6.5 4 2 7.5z" fill="currentColor" />
    </svg>
  );
}

export function Flag() {
  return (
    <svg viewBox="0 0 16 16" role="img" aria-label="flagged" className="size-3 shrink-0 text-danger">
      <path
        d="M3 1.5v13M3 2.5h9.5L10 6l2.5 3.5H3"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.75"
        strokeLinejoin="round"
      />
    </svg>
  );
}

const statusWords: Record<string, string> = {
  A: 'added',
  M: 'changed',
  D: 'deleted',
  R: 'renamed',
  C: 'copied',
  T: 'another kind',
};

export function Status({ status }: { status: string }) {
  return (
    <span
      title={statusWords[status] ?? status}
      aria-label={statusWords[status] ?? status}
      role="img"
      className={`w-3 shrink-0 text-center font-mono text-xs ${status === 'A' ? 'text-added' : status === 'D' ? 'text-deleted' : 'text-muted'}`}
    >
      {status.slice(0, 1)}
    </span>
  );
}
