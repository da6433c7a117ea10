/** Events in plain words, as the command line says them. Texts in them are the agent's: who shows them escapes them. */
import type { Schemas } from '../api';
import { bytes, count } from '../ui/figures';
import type { Kind } from './fold';

type Event = Schemas['Event'];
/** `you`: somebody has to look. */
export type Tone = 'plain' | 'good' | 'bad' | 'you';
export interface Note {
  kind: Kind;
  tone: Tone;
  title: string;
  detail: string | undefined;
}

const short = (commit: string) => commit.slice(0, 8);

/** `0.4 s`, `12 s`, `2 min`: how long something took, milliseconds in. */
export function took(ms: number): string {
  if (ms < 1) return '<\u20091\u00a0ms';
  if (ms < 1000) return `${Math.round(ms)}\u00a0ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)}\u00a0s`;
  if (ms < 60_000) return `${Math.round(ms / 1000)}\u00a0s`;
  const minutes = Math.floor(ms / 60_000);
  return minutes < 60
    ? `${minutes}\u00a0min ${Math.round((ms % 60_000) / 1000)}\u00a0s`
    : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

/** One event in words; `undefined` if it says nothing to a person, or if something else says it. */
export function note(event: Event): Note | undefined {
  const say = (kind: Kind, title: string, tone: Tone = 'plain', detail?: string | null): Note => ({
    kind,
    tone,
    title,
    detail: detail == null || detail.trim() === '' ? undefined : detail,
  });
  switch (event.type) {
    case 'task_created': {
      const places = [event, ...(event.others ?? [])].map((part) => {
        const name = 'branch' in part && part === event ? event.repository : (part as { name?: string }).name;
        return `${name === undefined || name === '' ? '' : `${name} `}from ${part.target ?? 'no branch'} at ${short(part.base)}`;
      });
      return say('run', `created ${places.join(', ')}`, 'plain', event.notices.join('\n'));
    }
    case 'egress_refused': {
      const port = event.port == null ? '' : `:${event.port}`;
      return say('environment', `refused ${event.host}${port}: ${event.reason}`, 'bad');
    }
    case 'service_ready':
      return say('environment', `${event.service} is ready after ${took(event.took_ms)}`);
    case 'service_completed':
      return say('environment', `${event.service} is done`);
    case 'service_unhealthy':
      return say('environment', `${event.service} is unhealthy: ${event.reason}`, 'bad');
    case 'service_healthy':
      return say('environment', `${event.service} is healthy`);
    case 'service_stopped':
      return say('environment', `${event.service} was stopped`);
    case 'service_failed': {
      const next = event.again ? '; it is started again' : '';
      return say('environment', `${event.service}: ${event.reason}${next}`, 'bad', event.log);
    }
    case 'noticed':
      return say('environment', event.notices.join(' · '));
    case 'preparing':
      return say('environment', event.step);
    case 'environment_up': {
      const soft = event.soft_limits.length > 0 ? `; watched only: ${event.soft_limits.join(', ')}` : '';
      return say('environment', `environment up in ${took(event.took_us / 1000)} (${event.tier}${soft})`);
    }
    case 'environment_suspended':
      return say('environment', 'environment asleep: nothing happened in it');
    case 'environment_resumed':
      return say('environment', 'environment awake');
    case 'environment_lost':
      return say('environment', `environment lost: ${event.reason}; its files are kept`, 'bad');
    case 'environment_removed':
      return say('environment', `environment removed: ${event.reason}`);
    case 'app_started':
      return say('environment', `app ${event.app} started`);
    case 'app_ended':
      return say('environment', `app ${event.app}: ${event.reason}`, event.asked ? 'plain' : 'bad');
    case 'agent_failed':
      return say('result', `agent failed: ${event.reason}`, 'bad');
    case 'agent_started':
      return say('environment', 'agent started');
    case 'session_lost':
      return say('environment', 'its session is not known any more; it begins a new one');
    case 'rule_removed':
      return say('approval', 'a standing rule was taken back');
    case 'attention_needed':
      return say('approval', `needs attention: ${event.reason}`, 'you');
    case 'stop_requested':
      return say('result', 'asked to stop');
    case 'harvested': {
      const parts = [
        { name: '', ...event },
        ...(event.others ?? []).map((part) => ({ ...part, name: `${part.name}: ` })),
      ];
      const lines = parts.map(({ name, commits, changes, leftovers, unpublished }) => {
        const left = leftovers ? ', what was left uncommitted among them' : '';
        const kept = unpublished == null ? '' : `; not in your repository yet: ${unpublished}`;
        return `${name}${count(commits, 'commit')} on the branch, ${count(changes.files, 'file')} changed${left}${kept}`;
      });
      return say('result', lines.join(' · '));
    }
    case 'run_ended': {
      const words = { complete: 'complete', failed: 'failed', stopped: 'stopped' } as const;
      const tone = event.end === 'complete' ? 'good' : event.end === 'failed' ? 'bad' : 'plain';
      const [first = '', ...rest] = event.reason.trim().split('\n');
      return say('result', `${words[event.end]}${first === '' ? '' : `: ${first}`}`, tone, rest.join('\n'));
    }
    case 'scope_changed':
      return say('run', `scope: ${event.scope.length === 0 ? 'everything' : event.scope.join(', ')}`);
    case 'comment_added':
      return say('run', `comment ${event.number} on ${event.path}:${event.line}: ${event.text}`);
    case 'comment_changed':
      return say('run', `comment ${event.number} now: ${event.text}`);
    case 'comment_removed':
      return say('run', `comment ${event.number} taken away`);
    case 'comments_sent':
      return say('run', `${count(event.numbers.length, 'comment')} sent`);
    case 'restore_started':
      return say('checkpoint', `going back to checkpoint ${event.step}`);
    case 'restored':
      return say('checkpoint', `the files are those of checkpoint ${event.step} again`);
    case 'restore_failed':
      return say('checkpoint', `could not go back: ${event.reason}`, 'bad');
    case 'landing_started': {
      const moves = (event.moves ?? []).map((move) => `${move.target} of ${move.repository}`);
      return say('result', `landing in ${moves.length > 0 ? moves.join(', ') : event.target}`);
    }
    case 'landing_refused':
      return say('result', `not landed: ${event.reason}`, 'bad');
    case 'landed': {
      const places = (event.repositories ?? []).map(
        (part) => `${part.target} of ${part.repository} as ${short(part.commit)}`,
      );
      const where = places.length > 0 ? places.join(', ') : `${event.target} as ${short(event.commit)}`;
      return say('result', `landed in ${where}`, 'good');
    }
    case 'discarded':
      return say('result', `discarded${event.reason === '' ? '' : `: ${event.reason}`}`);
    case 'agent':
      return agentNote(event.agent, say);
    default:
      // Something else says it, or it says nothing to a person: what began is told when it is over.
      return undefined;
  }
}

function agentNote(
  event: Schemas['AgentEvent'],
  say: (kind: Kind, title: string, tone?: Tone, detail?: string | null) => Note,
): Note | undefined {
  switch (event.type) {
    case 'trouble':
      return say('message', `trouble: ${event.text}${event.retrying ? ' (tries again)' : ''}`, 'bad');
    case 'attention':
      return say('approval', `attention: ${event.reason}`, 'you');
    case 'turn_ended':
      switch (event.reason) {
        case 'completed':
          return undefined;
        case 'cancelled':
          return say('message', 'turn cancelled');
        case 'refused':
          return say('message', 'refused', 'bad', event.text);
        case 'limit':
          return say('message', 'a limit was reached', 'bad', event.text);
        case 'failed':
          return say('message', 'turn failed', 'bad', event.text);
      }
    // eslint-disable-next-line no-fallthrough -- every reason answers
    default:
      return undefined;
  }
}

/** What agents put before the thing that a tool is about. */
const PREFIX =
  /^(?:(bash|shell|exec|run)|(read|view)|(edit|multiedit|write|update|apply_patch|create)|(grep|glob|search|find|ls)|(webfetch|websearch|fetch)|(delete|remove)|(move|rename))(?::\s*|\s+(?=\S))/i;
const verbs: [done: string, doing: string][] = [
  ['Ran', 'Runs'],
  ['Read', 'Reads'],
  ['Changed', 'Changes'],
  ['Searched', 'Searches'],
  ['Fetched', 'Fetches'],
  ['Deleted', 'Deletes'],
  ['Moved', 'Moves'],
];

/** A tool call in plain words: what is done, and to what; `code`: whether that is a command or a path. */
export function toolWords(
  title: string,
  kind: Schemas['ToolKind'],
  status: Schemas['ToolStatus'],
): { verb: string; about: string; code: boolean } {
  const doing = status === 'pending' || status === 'running' ? 1 : 0;
  if (kind === 'execute') {
    const about = title.replace(/^(?:bash|shell|exec)(?::\s*|\s+)/i, '');
    return { verb: verbs[0]?.[doing] ?? '', about, code: true };
  }
  const found = PREFIX.exec(title);
  const which = found ? found.slice(1).findIndex(Boolean) : -1;
  const verb = verbs[which];
  if (!found || !verb || which === 0) return { verb: '', about: title, code: false };
  // Of what failed it is not said that it was done.
  const about = title.slice(found[0].length);
  return {
    verb: status === 'failed' ? found[0].trim().replace(/:$/, '') : verb[doing],
    about,
    code: which !== 3 && which !== 4,
  };
}

/** How a check ended, in words. */
export function checkWords(over: boolean, code: number | undefined): string {
  if (!over) return 'runs';
  if (code === 0) return 'passed';
  return code === undefined ? 'was killed or took too long' : `failed with ${code}`;
}

/** How much text there is. */
export function lengthOf(text: string): string {
  return bytes(new Blob([text]).size);
}
