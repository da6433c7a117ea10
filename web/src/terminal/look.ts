/** The terminal in the page's colours. xterm.js wants them as numbers, so they are asked of the browser. */
import type { ITheme } from '@xterm/xterm';

const names = {
  background: 'surface',
  foreground: 'text',
  cursor: 'accent',
  cursorAccent: 'surface',
  selectionBackground: 'chosen',
  black: 'ansi-black',
  red: 'ansi-red',
  green: 'ansi-green',
  yellow: 'ansi-yellow',
  blue: 'ansi-blue',
  magenta: 'ansi-magenta',
  cyan: 'ansi-cyan',
  white: 'ansi-white',
  brightBlack: 'muted',
  brightRed: 'ansi-red',
  brightGreen: 'ansi-green',
  brightYellow: 'ansi-yellow',
  brightBlue: 'ansi-blue',
  brightMagenta: 'ansi-magenta',
  brightCyan: 'ansi-cyan',
  brightWhite: 'text',
  scrollbarSliderBackground: 'line',
  scrollbarSliderHoverBackground: 'edge',
  scrollbarSliderActiveBackground: 'edge',
} as const;

export function theme(at: HTMLElement): ITheme {
  const probe = document.createElement('span');
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  at.append(probe);
  const found: Record<string, string> = {};
  for (const [name, token] of Object.entries(names)) {
    probe.style.color = `var(--color-${token})`;
    if (!paint) continue;
    paint.fillStyle = getComputedStyle(probe).color;
    paint.fillRect(0, 0, 1, 1);
    const [red = 0, green = 0, blue = 0] = paint.getImageData(0, 0, 1, 1).data;
    found[name] = `#${[red, green, blue].map((part) => part.toString(16).padStart(2, '0')).join('')}`;
  }
  probe.remove();
  return found;
}

export const font =
  "ui-monospace, 'SF Mono', 'Cascadia Code', 'JetBrains Mono', 'DejaVu Sans Mono', monospace";
