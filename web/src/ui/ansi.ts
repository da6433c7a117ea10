/**
 * Output of programs as pieces of text with a look: colours and emphasis are kept, every other escape sequence is
 * dropped. Nothing of it becomes HTML; who shows it makes text nodes. Pure.
 */
import { safe } from './text';

export interface Look {
  /** One of the sixteen by number, or a colour of its own as `#rrggbb`. */
  fg?: number | string;
  bg?: number | string;
  bold?: boolean;
  faint?: boolean;
  italic?: boolean;
  underline?: boolean;
  strike?: boolean;
}

export interface Piece {
  text: string;
  look: Look;
}

// CSI; OSC; DCS, SOS, PM and APC with all that they carry; any other escape; also as single C1 characters. One that is
// cut off at the end is dropped whole.
const ESCAPE =
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  /(?:\u001b\[|\u009b)([0-?]*)[ -/]*([@-~]|$)|(?:\u001b\]|\u009d)[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c|$|(?=\u001b))|(?:\u001b[PX^_]|[\u0090\u0098\u009e\u009f])[^\u001b\u009c]*(?:\u001b\\|\u009c|$|(?=\u001b))|\u001b(?:[ -/]*[0-~]|$)?/g;

export function parse(output: string): Piece[] {
  const pieces: Piece[] = [];
  let look: Look = {};
  let inverse = false;
  let at = 0;
  const push = (raw: string) => {
    const text = safe(raw);
    if (text === '') return;
    const shown = inverse ? inverted(look) : look;
    const last = pieces.at(-1);
    if (last && JSON.stringify(last.look) === JSON.stringify(shown)) last.text += text;
    else pieces.push({ text, look: shown });
  };
  const text = overwritten(output);
  for (const found of text.matchAll(ESCAPE)) {
    push(text.slice(at, found.index));
    at = found.index + found[0].length;
    if (found[2] !== 'm' || /[<=>?]/.test(found[1] ?? '')) continue;
    const numbers = (found[1] ?? '').split(/[;:]/).map((number) => (number === '' ? 0 : Number(number)));
    look = { ...look };
    while (numbers.length > 0) {
      const number = numbers.shift() ?? 0;
      if (number === 7) inverse = true;
      else if (number === 27) inverse = false;
      else if (number === 0) {
        look = {};
        inverse = false;
      } else set(look, number, numbers);
    }
  }
  push(text.slice(at));
  return pieces;
}

/** The same without any look: to search in. */
export function plain(output: string): string {
  return overwritten(output).replace(ESCAPE, '');
}

/** What a line said before it went back to its beginning was a progress bar: its last state counts. */
function overwritten(output: string): string {
  if (!/[\r\b]/.test(output)) return output;
  return output
    .replace(/\r+\n/g, '\n')
    .split('\n')
    .map((line) => {
      const parts = line.split('\r').filter((part) => part !== '');
      const last = parts.at(-1) ?? '';
      if (!last.includes('\b')) return last;
      const kept: string[] = [];
      for (const character of last) {
        if (character === '\b') kept.pop();
        else kept.push(character);
      }
      return kept.join('');
    })
    .join('\n');
}

function set(look: Look, number: number, rest: number[]): void {
  if (number === 1) look.bold = true;
  else if (number === 2) look.faint = true;
  else if (number === 3) look.italic = true;
  else if (number === 4 || number === 21) look.underline = true;
  else if (number === 9) look.strike = true;
  else if (number === 22) {
    delete look.bold;
    delete look.faint;
  } else if (number === 23) delete look.italic;
  else if (number === 24) delete look.underline;
  else if (number === 29) delete look.strike;
  else if (number === 39) delete look.fg;
  else if (number === 49) delete look.bg;
  else if (number === 38 || number === 48) {
    const colour = extended(rest);
    if (colour !== undefined) look[number === 38 ? 'fg' : 'bg'] = colour;
  } else if (number >= 30 && number <= 37) look.fg = number - 30;
  else if (number >= 90 && number <= 97) look.fg = number - 82;
  else if (number >= 40 && number <= 47) look.bg = number - 40;
  else if (number >= 100 && number <= 107) look.bg = number - 92;
}

/** `5;n` or `2;r;g;b`. */
function extended(rest: number[]): number | string | undefined {
  const how = rest.shift();
  if (how === 5) {
    const number = rest.shift() ?? 0;
    if (number < 16) return number;
    if (number > 255) return undefined;
    if (number >= 232)
      return hex([8 + (number - 232) * 10, 8 + (number - 232) * 10, 8 + (number - 232) * 10]);
    const level = (step: number) => (step === 0 ? 0 : 55 + step * 40);
    const cube = number - 16;
    return hex([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
  }
  if (how === 2) return hex(rest.splice(0, 3));
  return undefined;
}

function hex(parts: number[]): string | undefined {
  if (parts.length !== 3 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255))
    return undefined;
  return `#${parts.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
}

function inverted({ fg, bg, ...look }: Look): Look {
  return { ...look, fg: bg ?? 'bg', bg: fg ?? 'text' };
}
