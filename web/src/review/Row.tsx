/** The rows of a diff: a file's head, lines, what is hidden between them, comments and where one is written. */
import { memo, useState } from 'react';
import { Button } from '../ui/Button';
import { inputClass } from '../ui/Field';
import { bytes, count } from '../ui/figures';
import { Lines } from '../ui/Lines';
import { Menu } from '../ui/Menu';
import { oneLine, safe } from '../ui/text';
import { Moment } from '../ui/Time';
import { key, lineOf, type CommentView } from './anchor';
import { Code } from './Code';
import type { Line } from './patch';
import type { FileEntry, Row as RowData } from './rows';
import { Flag, Status, Triangle } from './Tree';

export interface Acts {
  fold: (file: FileEntry) => void;
  view: (file: FileEntry) => void;
  load: (file: FileEntry) => void;
  expand: (file: FileEntry, gap: number) => void;
  /** `undefined` where no comment can be made. */
  write: ((file: FileEntry, at: string) => void) | undefined;
  point: (index: number) => void;
  /** No comment is written there any more. */
  stop: (file: FileEntry, at: string) => void;
  /** Whether it is saved. */
  save: (file: FileEntry, at: string, text: string) => Promise<boolean>;
  change: (comment: CommentView, text: string) => Promise<void>;
  remove: (comment: CommentView) => void;
}

export const Row = memo(function Row({
  row,
  index,
  pointed,
  acts,
}: {
  row: RowData;
  index: number;
  pointed: boolean;
  acts: Acts;
  /** Only to be drawn anew when it changes. */
  colours: number;
}) {
  switch (row.is) {
    case 'file':
      return <FileHead row={row} acts={acts} />;
    case 'note':
      return (
        <p className="border-x border-line bg-surface px-4 py-2 text-sm text-muted">
          {oneLine(row.text)}{' '}
          {row.load === true && (
            <Button
              onClick={() => {
                acts.load(row.file);
              }}
            >
              Load it
            </Button>
          )}
        </p>
      );
    case 'gap':
      return (
        <button
          type="button"
          className="flex h-6 w-full items-center gap-3 overflow-hidden border-x border-line bg-hover px-3 text-left text-xs text-muted hover:text-text touch:h-11"
          onClick={() => {
            acts.expand(row.file, row.gap);
          }}
        >
          <span className="shrink-0">
            {row.hidden === undefined
              ? 'Show the rest of the file'
              : row.hidden > 0
                ? `Show ${count(row.hidden, 'line')}`
                : '⋯'}
          </span>
          <span className="truncate font-mono">{oneLine(row.heading)}</span>
        </button>
      );
    case 'line':
      return <Unified row={row} index={index} pointed={pointed} acts={acts} />;
    case 'pair':
      return <Split row={row} index={index} pointed={pointed} acts={acts} />;
    case 'comment':
      return <Comment view={row.comment} away={row.away} acts={acts} />;
    case 'writing':
      return <Writing row={row} acts={acts} />;
    case 'end':
      return <div className="h-4 border-t border-line" />;
  }
});

function FileHead({ row, acts }: { row: Extract<RowData, { is: 'file' }>; acts: Acts }) {
  const { file } = row.file;
  const reasons = [
    ...(file.outside_scope === true ? ['outside of what the task was to touch'] : []),
    ...(file.runs_on_host ?? []).map((one) => one.why),
  ];
  const cut = file.path.lastIndexOf('/') + 1;
  const size =
    file.binary === true && file.new_bytes != null
      ? `${file.old_bytes != null && file.status !== 'A' ? `${bytes(file.old_bytes)} → ` : ''}${bytes(file.new_bytes)}`
      : undefined;
  return (
    <header
      className={`rounded-t-md border border-line bg-surface phone:rounded-none ${row.open ? '' : 'rounded-b-md'}`}
    >
      <div className="flex min-h-9 items-center gap-2 px-2 touch:min-h-11">
        <button
          type="button"
          aria-expanded={row.open}
          aria-label={`${row.open ? 'Fold' : 'Unfold'} ${oneLine(file.path)}`}
          className="grid size-6 shrink-0 place-items-center rounded-sm text-muted hover:bg-hover hover:text-text touch:size-11"
          onClick={() => {
            acts.fold(row.file);
          }}
        >
          <Triangle open={row.open} />
        </button>
        <Status status={file.status} />
        <h2 className="min-w-0 grow truncate text-sm" title={oneLine(file.path)}>
          <span className="text-muted">{oneLine(file.path.slice(0, cut))}</span>
          <span className="font-medium">{oneLine(file.path.slice(cut))}</span>
        </h2>
        {reasons.length > 0 && <Flag />}
        <span className="shrink-0 text-xs">
          {size ?? <Lines of={{ added: file.added ?? 0, deleted: file.deleted ?? 0 }} />}
        </span>
        <label className="flex h-6 shrink-0 cursor-pointer items-center gap-1.5 rounded-sm px-1.5 text-xs text-muted hover:bg-hover hover:text-text touch:h-11">
          <input
            type="checkbox"
            className="accent-accent"
            checked={row.viewed}
            onChange={() => {
              acts.view(row.file);
            }}
          />
          Viewed
        </label>
      </div>
      {reasons.length > 0 && (
        <ul className="border-t border-line bg-danger-soft px-3 py-1 text-sm">
          {reasons.map((reason) => (
            <li key={reason}>
              <span className="text-danger">{oneLine(reason)}</span>
            </li>
          ))}
        </ul>
      )}
    </header>
  );
}

const tones = { '+': 'bg-added-soft', '-': 'bg-deleted-soft', ' ': 'bg-surface' };
const signs = { '+': '+', '-': '−', ' ': '' };

function Number_({
  at,
  file,
  number,
  acts,
}: {
  at: string;
  file: FileEntry;
  number: number | undefined;
  acts: Acts;
}) {
  const className =
    'w-10 shrink-0 pr-2 text-right text-xs leading-5 text-muted select-none phone:w-8 phone:pr-1';
  if (number === undefined || !acts.write) return <span className={`block ${className}`}>{number}</span>;
  return (
    <button
      type="button"
      tabIndex={-1}
      aria-label={`Comment on line ${number}`}
      className={`flex items-start justify-end self-stretch hover:bg-accent hover:text-on-accent ${className}`}
      onClick={() => {
        acts.write?.(file, at);
      }}
    >
      {number}
    </button>
  );
}

function Unified({
  row: { line, file, mark },
  index,
  pointed,
  acts,
}: {
  row: Extract<RowData, { is: 'line' }>;
  index: number;
  pointed: boolean;
  acts: Acts;
}) {
  const at = key(lineOf(line).side, lineOf(line).line);
  return (
    <div
      data-line={at}
      onClick={() => {
        acts.point(index);
      }}
      className={`flex items-start border-x border-line ${tones[line.sign]} ${pointed ? 'outline-2 -outline-offset-2 outline-accent' : ''}`}
    >
      <div className={`flex self-stretch ${line.new === undefined ? '' : 'phone:hidden'}`}>
        <Number_ at={key('old', line.old ?? 0)} file={file} number={line.old} acts={acts} />
      </div>
      <div className={`flex self-stretch ${line.new === undefined ? 'phone:hidden' : ''}`}>
        <Number_ at={at} file={file} number={line.new} acts={acts} />
      </div>
      <span
        aria-hidden
        className="w-4 shrink-0 text-center font-mono text-[0.75rem] leading-5 text-muted select-none"
      >
        {signs[line.sign]}
      </span>
      <Text line={line} mark={mark} />
    </div>
  );
}

function Text({ line, mark }: { line: Line; mark?: [number, number] | undefined }) {
  return (
    <code
      dir="ltr"
      className="min-w-0 grow pr-2 font-mono text-[0.75rem] leading-5 [overflow-wrap:anywhere] break-words whitespace-pre-wrap"
    >
      {line.sign !== ' ' && <span className="sr-only">{line.sign === '+' ? 'added: ' : 'deleted: '}</span>}
      <Code line={line} mark={mark} />
    </code>
  );
}

function Split({
  row: { pair, file, marks },
  index,
  pointed,
  acts,
}: {
  row: Extract<RowData, { is: 'pair' }>;
  index: number;
  pointed: boolean;
  acts: Acts;
}) {
  const { left, right } = pair;
  return (
    <div
      data-line={right ? key('new', right.new ?? 0) : key('old', left?.old ?? 0)}
      onClick={() => {
        acts.point(index);
      }}
      className={`grid grid-cols-2 border-x border-line ${pointed ? 'outline-2 -outline-offset-2 outline-accent' : ''}`}
    >
      <div className={`flex min-w-0 items-start ${left ? tones[left.sign] : 'bg-hover'}`}>
        {left && (
          <>
            <Number_ at={key('old', left.old ?? 0)} file={file} number={left.old} acts={acts} />
            <Text line={left} mark={marks?.left} />
          </>
        )}
      </div>
      <div
        className={`flex min-w-0 items-start border-l border-line ${right ? tones[right.sign] : 'bg-hover'}`}
      >
        {right && (
          <>
            <Number_ at={key('new', right.new ?? 0)} file={file} number={right.new} acts={acts} />
            <Text line={right} mark={marks?.right} />
          </>
        )}
      </div>
    </div>
  );
}

function Comment({ view, away, acts }: { view: CommentView; away: boolean; acts: Acts }) {
  const [editing, setEditing] = useState<string>();
  const { comment } = view;
  return (
    <article
      aria-label={`Comment ${comment.number}`}
      data-comment={comment.number}
      className="border-x border-line bg-bg px-3 py-2"
    >
      <div className="max-w-3xl rounded-md bg-surface px-3 py-2 ring-1 ring-line ring-inset">
        <header className="flex flex-wrap items-center gap-x-2 text-xs text-muted">
          {comment.sent == null ? (
            <span className="font-medium text-accent">not sent yet</span>
          ) : (
            <span>sent with run {comment.sent}</span>
          )}
          <Moment at={comment.at} />
          {view.stale ? (
            <span className="rounded-sm bg-danger-soft px-1 font-medium text-danger">
              stale: line {comment.line} is not there any more
            </span>
          ) : away ? (
            <span>
              line {view.line_now ?? comment.line}
              {comment.side === 'old' ? ' before the change' : ''}, which is not shown here
            </span>
          ) : view.line_now !== comment.line && view.line_now != null ? (
            <span>was line {comment.line}</span>
          ) : null}
          <span className="grow" />
          {comment.sent == null && editing === undefined && (
            <Menu
              trigger={
                <button
                  type="button"
                  aria-label="Change or remove"
                  className="h-6 rounded-sm px-1.5 hover:bg-hover touch:h-11"
                >
                  ⋯
                </button>
              }
              items={[
                {
                  title: 'Edit',
                  run: () => {
                    setEditing(comment.text);
                  },
                },
                {
                  title: 'Remove',
                  danger: true,
                  run: () => {
                    acts.remove(view);
                  },
                },
              ]}
            />
          )}
        </header>
        {away && (
          <pre className="mt-1 truncate font-mono text-xs text-muted">{oneLine(comment.anchor.text)}</pre>
        )}
        {editing === undefined ? (
          <p className="mt-1 text-sm whitespace-pre-wrap">{safe(comment.text)}</p>
        ) : (
          <Words
            text={editing}
            label="Comment"
            onType={setEditing}
            save="Save"
            onSave={async (text) => {
              await acts.change(view, text);
              setEditing(undefined);
            }}
            onCancel={() => {
              setEditing(undefined);
            }}
          />
        )}
      </div>
    </article>
  );
}

/** What is being written: it outlives its row, which is not drawn while it is out of sight. */
const words = new Map<string, string>();

function Writing({ row, acts }: { row: Extract<RowData, { is: 'writing' }>; acts: Acts }) {
  const place = `${row.file.print}\0${row.file.file.path}\0${row.at}`;
  const [text, setText] = useState(() => words.get(place) ?? '');
  const number = row.at.split(':')[1] ?? '';
  return (
    <div className="border-x border-line bg-bg px-3 py-2">
      <div className="max-w-3xl">
        <Words
          text={text}
          label={`Comment on line ${number}${row.at.startsWith('old') ? ' before the change' : ''}`}
          onType={(next) => {
            words.set(place, next);
            setText(next);
          }}
          save="Add comment"
          onSave={async (whole) => {
            if (await acts.save(row.file, row.at, whole)) words.delete(place);
          }}
          onCancel={() => {
            words.delete(place);
            acts.stop(row.file, row.at);
          }}
        />
      </div>
    </div>
  );
}

function Words({
  text,
  label,
  save,
  onType,
  onSave,
  onCancel,
}: {
  text: string;
  label: string;
  save: string;
  onType: (text: string) => void;
  onSave: (text: string) => Promise<void>;
  onCancel: () => void;
}) {
  const [busy, setBusy] = useState(false);
  const send = () => {
    if (text.trim() === '' || busy) return;
    setBusy(true);
    void onSave(text.trim()).finally(() => {
      setBusy(false);
    });
  };
  return (
    <div className="flex flex-col gap-2">
      <textarea
        autoFocus
        aria-label={label}
        placeholder={label}
        value={text}
        className={`${inputClass} field-sizing-content max-h-60 min-h-16 py-2`}
        onChange={(event) => {
          onType(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
          else if (event.key === 'Escape') {
            event.stopPropagation();
            onCancel();
          }
        }}
      />
      <div className="flex justify-end gap-2">
        <Button onClick={onCancel}>Cancel</Button>
        <Button
          look="main"
          keys="mod+enter"
          disabled={text.trim() === ''}
          busy={busy && 'Saving…'}
          onClick={send}
        >
          {save}
        </Button>
      </div>
    </div>
  );
}
