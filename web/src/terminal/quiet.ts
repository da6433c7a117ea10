/**
 * What a program inside may not do to a terminal here: set the clipboard or the title, ask the terminal something and so
 * make it type, paint colours that hide text, open addresses that are none of the web.
 *
 * Two walls. Sequences that want an answer are taken away before xterm.js sees them. And only what a person did reaches
 * the program: xterm.js tells input from answers before it tells the data, and whatever was not told as input is
 * dropped, known sequence or not. Programs that ask get no answer and go on without, after a moment some of them.
 */
import type { IDisposable, Terminal } from '@xterm/xterm';

const CSI: { prefix?: string; intermediates?: string; final: string }[] = [
  // Who are you, primary, secondary and tertiary; the same of VT52's time.
  { final: 'c' },
  { prefix: '>', final: 'c' },
  { prefix: '=', final: 'c' },
  { prefix: '?', final: 'c' },
  { final: 'x' },
  // How are you, where is the cursor; the same, private: colour scheme, printer, keyboard.
  { final: 'n' },
  { prefix: '?', final: 'n' },
  // Sizes, positions and titles of the window, also the saved ones.
  { final: 't' },
  { prefix: '>', final: 't' },
  // Modes, version, keyboard protocol, rectangles.
  { intermediates: '$', final: 'p' },
  { prefix: '?', intermediates: '$', final: 'p' },
  { prefix: '>', final: 'q' },
  { prefix: '?', final: 'u' },
  { intermediates: '*', final: 'y' },
  { intermediates: '$', final: 'w' },
];
const DCS: { prefix?: string; intermediates?: string; final: string }[] = [
  // Settings and termcap entries.
  { intermediates: '$', final: 'q' },
  { intermediates: '+', final: 'q' },
];
/** Title and icon; colours, asked and set; the clipboard; notifications, files and pictures of other terminals. */
const OSC = [
  0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 50, 51, 52, 60, 99, 104, 105,
  110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 777, 1337, 5522,
];

/** What of xterm.js tells whether data is input; not of its public interface, so `typed` says so if it is not there. */
interface Inner {
  _core?: { coreService?: { onUserInput?: (listener: () => void) => IDisposable } };
}

export function silence(terminal: Terminal): void {
  const { parser } = terminal;
  const taken = () => true;
  for (const id of CSI) parser.registerCsiHandler(id, taken);
  for (const id of DCS) parser.registerDcsHandler(id, taken);
  for (const id of OSC) parser.registerOscHandler(id, taken);
}

/** Calls with what a person typed, pasted or did with the mouse; with nothing else. */
export function typed(terminal: Terminal, listener: (data: string | Uint8Array<ArrayBuffer>) => void): void {
  const onUserInput = (terminal as Inner)._core?.coreService?.onUserInput;
  if (!onUserInput) throw new Error('this xterm.js does not tell input from answers');
  let byHand = false;
  onUserInput(() => {
    byHand = true;
  });
  terminal.onData((data) => {
    if (!byHand) return;
    byHand = false;
    listener(data);
  });
  // Reports of the mouse, in the old way that is not text.
  terminal.onBinary((data) => {
    listener(Uint8Array.from(data, (character) => character.charCodeAt(0)));
  });
}

/** A text that is pasted: it cannot end the brackets that tell the program that it was pasted, nor be keys. */
export function pasted(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u0080-\u009f]/g, '');
}

/** The address of a link that a program made, if it is one of the web. */
export function linked(text: string): string | undefined {
  try {
    const url = new URL(text);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : undefined;
  } catch {
    return undefined;
  }
}
