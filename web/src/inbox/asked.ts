/**
 * What an approval asks for and which answers there are, in the words of the API. Pure.
 *
 * Everything here may come from an agent: it is compared, never interpreted, and shown through `ui/text`.
 */
import type { Schemas } from '../api';

export type Approval = Schemas['ApprovalView'];
type Record_ = Schemas['ApprovalRecord'];
export type Option = Schemas['AskOption'];
export type RuleMatch = Schemas['RuleMatch'];

/** The offered answer that is a plain yes; without one somebody has to choose. The same rule as the daemon's. */
export function plainYes(asked: Record_): Option | undefined {
  const yes = asked.options.filter((option) => option.kind === 'allow_once');
  return yes.length === 1 && asked.subject.type !== 'question' ? yes[0] : undefined;
}

/** Answers to choose from where a plain yes does not do; the agent's own "always" is not offered. */
export function choices(asked: Record_): Option[] {
  if (plainYes(asked)) return [];
  return asked.options.filter((option) => option.kind !== 'allow_always' && option.kind !== 'reject_always');
}

export function verdictOf(option: Option): Schemas['Verdict'] {
  return option.kind === 'reject_once' || option.kind === 'reject_always' ? 'deny' : 'allow';
}

/** Whether a yes does something that a thumb should not do by the way: all but reading and editing files. */
export function isDangerous(asked: Record_): boolean {
  const { subject } = asked;
  if (subject.type !== 'files') return true;
  return !['read', 'search', 'edit', 'think'].includes(subject.kind);
}

const doing: Record<Schemas['ToolKind'], string> = {
  read: 'read',
  edit: 'change',
  delete: 'delete',
  move: 'move',
  search: 'search',
  execute: 'run',
  think: 'think about',
  fetch: 'fetch',
  other: 'use',
};

/** What it wants, as the end of "claude wants …". */
export function wants(asked: Record_): string {
  const { subject } = asked;
  switch (subject.type) {
    case 'command':
      return 'to run a command';
    case 'files':
      return `to ${doing[subject.kind]} ${subject.paths.length === 1 ? 'a file' : `${subject.paths.length} files`}`;
    case 'tool':
      return 'to use a tool';
    case 'host':
      return 'to reach a host that is on no list';
    case 'question':
      return 'to know something';
    case 'unclear':
      return plainYes(asked) ? 'your permission' : 'an answer';
  }
}

/** The thing itself, whole: what a yes is a yes to. `undefined` if only title and detail say it. */
export function subjectText(asked: Record_): string | undefined {
  const { subject } = asked;
  switch (subject.type) {
    case 'command':
      return subject.command;
    case 'files':
      return subject.paths.join('\n');
    case 'tool':
      return `${subject.name} ${subject.input}`;
    case 'host':
      return `${subject.host}:${subject.port}`;
    default:
      return undefined;
  }
}

/** More than the subject says: the change, the explanation. */
export function moreText(asked: Record_): string | undefined {
  const subject = subjectText(asked)?.trim();
  let detail = asked.detail?.trim() ?? '';
  // Many agents begin the change with the file's name.
  if (subject !== undefined && detail.startsWith(`${subject}\n`))
    detail = detail.slice(subject.length).trim();
  return detail === '' || detail === asked.title.trim() || detail === subject ? undefined : detail;
}

/** The words of a command in which a shell has nothing to interpret; `undefined` for all others. As the daemon's. */
export function plainWords(command: string): string[] | undefined {
  if (!/^[A-Za-z0-9 _\-./:,@%+=]*$/.test(command)) return undefined;
  const words = command.split(' ').filter((word) => word !== '');
  return words.length === 0 || words[0]?.includes('=') ? undefined : words;
}

/** What a rule could be about besides exactly this, with what is offered to begin with. */
export function wider(asked: Record_): { is: 'prefix' | 'below'; text: string } | undefined {
  const { subject } = asked;
  if (subject.type === 'command') {
    const words = plainWords(subject.command);
    return words && { is: 'prefix', text: words.slice(0, words.length > 2 ? 2 : 1).join(' ') };
  }
  if (subject.type === 'files') {
    const [first] = subject.paths;
    const directory = first?.slice(0, first.lastIndexOf('/'));
    return directory === undefined || directory === '' ? undefined : { is: 'below', text: directory };
  }
  return undefined;
}

/** Why a wider rule would be refused; `undefined` if it holds for this very request. */
export function misses(asked: Record_, is: 'prefix' | 'below', text: string): string | undefined {
  const { subject } = asked;
  if (is === 'prefix' && subject.type === 'command') {
    const words = plainWords(text);
    if (!words) return 'letters, digits, spaces and _-./:,@%+= only';
    const all = plainWords(subject.command) ?? [];
    return words.every((word, at) => all[at] === word) ? undefined : 'this command does not begin with that';
  }
  if (is === 'below' && subject.type === 'files') {
    const directory = text.replace(/\/$/, '');
    if (
      !directory.startsWith('/') ||
      directory.split('/').some((part, at) => at > 0 && /^\.{0,2}$/.test(part))
    ) {
      return 'an absolute path, without . and ..';
    }
    return subject.paths.every((path) => path.startsWith(`${directory}/`))
      ? undefined
      : 'a file of this request is not below that';
  }
  return 'this cannot be compared';
}

/** What a rule answers, in words: `commands that begin with “cargo test”`. The text in it is hostile. */
export function matchWords(matches: RuleMatch): { words: string; text: string } {
  switch (matches.type) {
    case 'command':
      return { words: 'exactly this command', text: matches.command };
    case 'command_prefix':
      return { words: 'commands that begin with', text: matches.words.join(' ') };
    case 'files':
      return { words: `to ${doing[matches.kind]} exactly`, text: matches.paths.join('\n') };
    case 'files_below':
      return { words: `to ${doing[matches.kind]} files below`, text: matches.directory };
    case 'tool':
      return { words: 'exactly this tool call', text: `${matches.name} ${matches.input}` };
    case 'host':
      return { words: 'to reach', text: `${matches.host}:${matches.port}` };
  }
}

/** What became of it, in words: `allowed by you`, `denied: nobody answered in time`. */
export function outcome(asked: Record_, mine: boolean, rule?: string): string {
  const by = asked.answer?.by;
  const who =
    by?.type === 'rule'
      ? ` by the rule ${rule ?? 'made before'}`
      : by?.type === 'person'
        ? mine
          ? ' by you'
          : ' by a person'
        : '';
  switch (asked.state) {
    case 'waiting':
      return 'waits';
    case 'allowed':
      return `allowed${who}${asked.answer?.rule ? ', and the same from now on' : ''}`;
    case 'denied':
      return `denied${who}${asked.answer?.rule ? ', and the same from now on' : ''}`;
    case 'expired':
      return 'counted as denied: nobody answered in time';
    case 'withdrawn':
      return 'not asked any more';
  }
}
