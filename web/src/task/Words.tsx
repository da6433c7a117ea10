/** An agent's words: markdown without HTML, without pictures, and with links that lead to web addresses only. */
import { memo, useState } from 'react';
import Markdown, { type Components } from 'react-markdown';
import remarkGfm from 'remark-gfm';
import { buttonClass } from '../ui/Button';
import { safe } from '../ui/text';
import { address } from './links';

/** Longer texts are shown up to here until a person wants the rest: some screens. */
const LONG = 12_000;

const heading = ({ children }: { children?: React.ReactNode }) => (
  <p className="mt-4 font-semibold first:mt-0">{children}</p>
);

const components: Components = {
  a: ({ href, children }) =>
    href === undefined || href === '' ? (
      <span>{children}</span>
    ) : (
      <a
        href={href}
        title={href}
        target="_blank"
        rel="noopener noreferrer"
        className="text-accent underline decoration-accent/40 underline-offset-2 hover:decoration-accent"
      >
        {children}
      </a>
    ),
  // Not loaded: to whom it belongs would learn that somebody reads this.
  img: ({ src, alt }) => {
    const name = alt === undefined || alt === '' ? 'picture' : alt;
    return typeof src === 'string' && src !== '' ? (
      <a href={src} title={src} target="_blank" rel="noopener noreferrer" className="text-accent underline">
        [{name}]
      </a>
    ) : (
      <span>[{name}]</span>
    );
  },
  h1: heading,
  h2: heading,
  h3: heading,
  h4: heading,
  h5: heading,
  h6: heading,
  p: ({ children }) => <p className="mt-2 first:mt-0">{children}</p>,
  ul: ({ children }) => <ul className="mt-2 list-disc pl-5 first:mt-0">{children}</ul>,
  ol: ({ children, start }) => (
    <ol start={start} className="mt-2 list-decimal pl-5 first:mt-0">
      {children}
    </ol>
  ),
  li: ({ children }) => <li className="mt-0.5">{children}</li>,
  blockquote: ({ children }) => (
    <blockquote className="mt-2 border-l-2 border-line pl-3 text-muted first:mt-0">{children}</blockquote>
  ),
  hr: () => <hr className="my-3 border-line" />,
  code: ({ children }) => (
    <code className="rounded-sm bg-hover px-1 py-px font-mono text-[0.92em]">{children}</code>
  ),
  pre: ({ children }) => (
    <pre
      tabIndex={0}
      className="mt-2 overflow-x-auto rounded-md bg-surface px-3 py-2 font-mono text-xs leading-5 ring-1 ring-line ring-inset first:mt-0 [&_code]:bg-transparent [&_code]:p-0 [&_code]:text-[1em]"
    >
      {children}
    </pre>
  ),
  table: ({ children }) => (
    <div tabIndex={0} className="mt-2 overflow-x-auto first:mt-0">
      <table className="text-sm">{children}</table>
    </div>
  ),
  th: ({ children }) => (
    <th scope="col" className="border-b border-line py-1 pr-4 text-left font-medium">
      {children}
    </th>
  ),
  td: ({ children }) => <td className="border-b border-line py-1 pr-4 align-top">{children}</td>,
  // A list of what is to be done: told by a shape, nothing to click.
  input: ({ checked }) => <span aria-label={checked ? 'done' : 'to do'}>{checked ? '☑' : '☐'} </span>,
};
const plugins = [remarkGfm];

export const Words = memo(function Words({ text, quiet = false }: { text: string; quiet?: boolean }) {
  const [whole, setWhole] = useState(false);
  const cut = !whole && text.length > LONG;
  return (
    <div className={`max-w-prose min-w-0 ${quiet ? 'text-sm text-muted' : ''}`}>
      <Markdown remarkPlugins={plugins} urlTransform={address} components={components}>
        {safe(cut ? text.slice(0, LONG) : text).trim()}
      </Markdown>
      {cut && (
        <button
          type="button"
          className={`${buttonClass('quiet')} mt-1 -ml-2.5`}
          onClick={() => {
            setWhole(true);
          }}
        >
          Show all of it, {Math.round(text.length / 1000)} k characters
        </button>
      )}
    </div>
  );
});
