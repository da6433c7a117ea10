/**
 * Colours of code, asked of a worker for files that are looked at. What takes too long, or is too long, stays plain.
 */
import { useSyncExternalStore } from 'react';
import type { Hunk, Line } from './patch';

export type Kind = 'plain' | 'key' | 'value' | 'text' | 'aside' | 'name' | 'type' | 'attr';
/** So many characters of this kind. */
export type Piece = [number, Kind];
export interface Colour {
  id: number;
  language: string;
  /** For each hunk, its lines before and after the change. */
  parts: { old: string; new: string }[];
}
export interface Coloured {
  id: number;
  parts: { old: Piece[][]; new: Piece[][] }[] | undefined;
}

/** Longer changes are not coloured: it would take seconds. */
const MOST = 300_000;
/** Nor are lines as long as these, which no person wrote. */
const LONG_LINE = 2_000;
/** After this the worker is given up, in milliseconds. */
const PATIENCE = 3_000;

const languages: Record<string, string> = {
  bash: 'bash',
  c: 'c',
  cc: 'cpp',
  cjs: 'javascript',
  conf: 'ini',
  cpp: 'cpp',
  cs: 'csharp',
  css: 'css',
  cts: 'typescript',
  go: 'go',
  graphql: 'graphql',
  h: 'cpp',
  hpp: 'cpp',
  htm: 'xml',
  html: 'xml',
  ini: 'ini',
  java: 'java',
  js: 'javascript',
  json: 'json',
  jsonc: 'json',
  jsx: 'javascript',
  kt: 'kotlin',
  less: 'less',
  lua: 'lua',
  m: 'objectivec',
  md: 'markdown',
  mjs: 'javascript',
  mk: 'makefile',
  mts: 'typescript',
  php: 'php',
  pl: 'perl',
  proto: 'protobuf',
  py: 'python',
  r: 'r',
  rb: 'ruby',
  rs: 'rust',
  sass: 'scss',
  scss: 'scss',
  sh: 'bash',
  sql: 'sql',
  svg: 'xml',
  swift: 'swift',
  toml: 'ini',
  ts: 'typescript',
  tsx: 'typescript',
  vb: 'vbnet',
  vue: 'xml',
  xml: 'xml',
  yaml: 'yaml',
  yml: 'yaml',
  zsh: 'bash',
  dockerfile: 'dockerfile',
  makefile: 'makefile',
  gemfile: 'ruby',
  rakefile: 'ruby',
};

/** What a file is written in, by its name. */
export function languageOf(path: string): string | undefined {
  const name = (path.split('/').pop() ?? '').toLowerCase();
  return languages[name] ?? languages[name.includes('.') ? (name.split('.').pop() ?? '') : ''];
}

let worker: Worker | undefined;
let next = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
const queue: { ask: Colour; hunks: readonly Hunk[] }[] = [];
let busy: { ask: Colour; hunks: readonly Hunk[] } | undefined;
/** `undefined` while it is asked for. */
const asked = new WeakSet<Hunk>();
const pieces = new WeakMap<Line, { old?: Piece[]; new?: Piece[] }>();
const listeners = new Set<() => void>();
let version = 0;

function done(): void {
  clearTimeout(timer);
  busy = undefined;
  run();
}

function run(): void {
  busy ??= queue.shift();
  if (!busy || timer === undefined) clearTimeout(timer);
  if (!busy) return;
  if (!worker) {
    worker = new Worker(new URL('./highlight.worker.ts', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }: MessageEvent<Coloured>) => {
      if (data.id !== busy?.ask.id) return;
      take(busy.hunks, data);
      done();
    };
    worker.onerror = giveUp;
  }
  worker.postMessage(busy.ask);
  timer = setTimeout(giveUp, PATIENCE);
}

function giveUp(): void {
  worker?.terminate();
  worker = undefined;
  done();
}

function take(hunks: readonly Hunk[], { parts }: Coloured): void {
  parts?.forEach((part, index) => {
    let before = 0;
    let after = 0;
    for (const line of hunks[index]?.lines ?? []) {
      const own: { old?: Piece[]; new?: Piece[] } = {};
      if (line.sign !== '+') own.old = part.old[before++] ?? [];
      if (line.sign !== '-') own.new = part.new[after++] ?? [];
      pieces.set(line, own);
    }
  });
  version += 1;
  for (const listener of listeners) listener();
}

/** Asks for the colours of a file, once. */
export function colour(path: string, hunks: readonly Hunk[]): void {
  const [first] = hunks;
  const language = languageOf(path);
  if (!first || language === undefined || asked.has(first)) return;
  asked.add(first);
  let size = 0;
  for (const hunk of hunks)
    for (const line of hunk.lines) {
      size += line.text.length;
      if (line.text.length > LONG_LINE || size > MOST) return;
    }
  const side = (hunk: Hunk, not: '+' | '-') =>
    hunk.lines
      .filter((line) => line.sign !== not)
      .map((line) => line.text)
      .join('\n');
  next += 1;
  queue.push({
    ask: { id: next, language, parts: hunks.map((hunk) => ({ old: side(hunk, '+'), new: side(hunk, '-') })) },
    hunks,
  });
  if (!busy) run();
}

export function coloursOf(line: Line): Piece[] | undefined {
  const found = pieces.get(line);
  return line.sign === '-' ? found?.old : found?.new;
}

/** Draws anew when more is coloured. */
export function useColours(): number {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => version,
  );
}
