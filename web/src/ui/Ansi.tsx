/** Output of a program, with its colours. */
import { memo } from 'react';
import { parse, type Look } from './ansi';

// The sixteen, in tones that can be read on this page's surfaces, light and dark (`style.css`).
const inks = [
  'text-ansi-black',
  'text-ansi-red',
  'text-ansi-green',
  'text-ansi-yellow',
  'text-ansi-blue',
  'text-ansi-magenta',
  'text-ansi-cyan',
  'text-ansi-white',
];
const grounds = [
  'bg-ansi-black text-bg',
  'bg-ansi-red text-bg',
  'bg-ansi-green text-bg',
  'bg-ansi-yellow text-bg',
  'bg-ansi-blue text-bg',
  'bg-ansi-magenta text-bg',
  'bg-ansi-cyan text-bg',
  'bg-ansi-white text-bg',
];

export const Ansi = memo(function Ansi({ text }: { text: string }) {
  return parse(text).map(({ text, look }, index) => {
    const className = classes(look);
    const style = styles(look);
    if (className === '' && !style) return text;
    return (
      <span key={index} className={className} {...(style && { style })}>
        {text}
      </span>
    );
  });
});

function classes(look: Look): string {
  const names: string[] = [];
  if (look.bold) names.push('font-semibold');
  if (look.faint) names.push('text-muted');
  if (look.italic) names.push('italic');
  if (look.underline) names.push('underline');
  if (look.strike) names.push('line-through');
  if (look.bg === 'text') names.push('bg-text');
  else if (typeof look.bg === 'number') names.push(grounds[look.bg % 8] ?? '');
  if (look.fg === 'bg') names.push('text-bg');
  // On a ground of its own the ink of the page is what can be read.
  else if (typeof look.fg === 'number' && look.bg === undefined) names.push(inks[look.fg % 8] ?? '');
  return names.join(' ');
}

/** A colour of the program's own, made dark or light enough for the page. */
function styles(look: Look): React.CSSProperties | undefined {
  const own = (colour: Look['fg']) => typeof colour === 'string' && colour.startsWith('#');
  if (own(look.bg)) {
    return {
      background: String(look.bg),
      color: `oklch(from ${String(look.bg)} calc((0.62 - l) * 1000) 0 0)`,
    };
  }
  if (!own(look.fg) || look.bg !== undefined) return undefined;
  const fg = String(look.fg);
  return { color: `light-dark(oklch(from ${fg} min(l, 0.48) c h), oklch(from ${fg} max(l, 0.74) c h))` };
}
