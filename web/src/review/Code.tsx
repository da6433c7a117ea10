/**
 * One line of code. What would hide, or turn the text around, is shown as its number in a box: in a review one has to
 * see that it is there. Enormous lines are cut.
 */
import { Fragment, useState, type ReactNode } from 'react';
import { coloursOf, type Piece } from './highlight';
import type { Line } from './patch';

/** A line longer than this is cut until somebody wants to see it. */
const CUT = 600;

const ODD =
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** Text with what is odd in it made visible. */
export function visible(text: string): ReactNode {
  if (text.search(ODD) === -1) return text;
  const out: ReactNode[] = [];
  let from = 0;
  for (const match of text.matchAll(ODD)) {
    // The carriage return of a line break of Windows is nobody's trick.
    const name =
      match[0] === '\r' && match.index === text.length - 1
        ? 'CR'
        : `U+${(match[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
    out.push(text.slice(from, match.index));
    out.push(
      <span key={match.index} className="odd">
        {name}
      </span>,
    );
    from = match.index + match[0].length;
  }
  out.push(text.slice(from));
  return out;
}

export function Code({ line, mark }: { line: Line; mark?: [number, number] | undefined }) {
  const [all, setAll] = useState(false);
  const cut = !all && line.text.length > CUT;
  const text = cut ? line.text.slice(0, CUT) : line.text;
  return (
    <>
      {text === '' ? '\u200a' : spans(text, coloursOf(line), mark, line.sign)}
      {cut && (
        <button
          type="button"
          className="mx-1 rounded-sm bg-hover px-1 font-sans text-xs text-accent hover:underline"
          onClick={() => {
            setAll(true);
          }}
        >
          show {(line.text.length - CUT).toLocaleString('en')} more characters
        </button>
      )}
      {line.open === true && (
        <span className="ml-2 font-sans text-xs text-muted select-none">no line break at the end</span>
      )}
    </>
  );
}

/** Colours and the mark of what differs, laid over each other. */
function spans(
  text: string,
  colours: Piece[] | undefined,
  mark: [number, number] | undefined,
  sign: Line['sign'],
): ReactNode {
  const pieces: Piece[] = colours ?? [[text.length, 'plain']];
  const out: ReactNode[] = [];
  let from = 0;
  const put = (to: number, kind: string) => {
    const edges = [from, to, ...(mark ?? [])]
      .filter((edge) => edge >= from && edge <= to)
      .sort((a, b) => a - b);
    for (let at = 1; at < edges.length; at += 1) {
      const start = edges[at - 1] ?? 0;
      const end = edges[at] ?? 0;
      if (start === end) continue;
      const marked = mark !== undefined && start >= mark[0] && end <= mark[1];
      const className =
        `${kind === 'plain' ? '' : `c-${kind}`} ${marked ? (sign === '-' ? 'rounded-xs bg-deleted-mark' : 'rounded-xs bg-added-mark') : ''}`.trim();
      const part = visible(text.slice(start, end));
      out.push(
        className === '' ? (
          <Fragment key={start}>{part}</Fragment>
        ) : (
          <span key={start} className={className}>
            {part}
          </span>
        ),
      );
    }
    from = to;
  };
  for (const [length, kind] of pieces) {
    if (from >= text.length) break;
    put(Math.min(from + length, text.length), kind);
  }
  // The worker counted the same text; if it did not, nothing is lost.
  if (from < text.length) put(text.length, 'plain');
  return out;
}
