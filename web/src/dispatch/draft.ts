/** What is being asked for and was not sent yet. Survives a reload; values of variables are never part of it. */
import { useRemembered } from '../ui/storage';

export interface Draft {
  path: string;
  prompt: string;
  /** Each line is a task of its own. */
  many: boolean;
  /** Empty: the project's. */
  agent: string;
  byHand: boolean;
  from: string;
  name: string;
  model: string;
  check: string;
  permission: '' | 'allow' | 'deny' | 'ask';
  isolation: '' | 'sandbox' | 'worktree';
  instructions: string;
  /** Hosts, separated by spaces or commas. */
  allow: string;
  /** Patterns of paths, one a line or separated by spaces. */
  scope: string;
}

export const blank: Draft = {
  path: '',
  prompt: '',
  many: false,
  agent: '',
  byHand: false,
  from: '',
  name: '',
  model: '',
  check: '',
  permission: '',
  isolation: '',
  instructions: '',
  allow: '',
  scope: '',
};

function isDraft(value: unknown): value is Draft {
  if (typeof value !== 'object' || value === null) return false;
  const fields = value as Record<string, unknown>;
  return Object.entries(blank).every(([name, initial]) => typeof fields[name] === typeof initial);
}

export function useDraft() {
  return useRemembered('draft', blank, isDraft);
}

/** The request that a draft amounts to, for one of its prompts. */
export function params(draft: Draft, prompt: string) {
  const given = (text: string) => (text.trim() === '' ? null : text.trim());
  return {
    path: draft.path.trim(),
    prompt,
    by_hand: draft.byHand,
    agent: draft.byHand ? null : given(draft.agent),
    from: given(draft.from),
    name: draft.many ? null : given(draft.name),
    model: given(draft.model),
    check: given(draft.check),
    permission: draft.permission === '' ? null : draft.permission,
    isolation: draft.isolation === '' ? null : draft.isolation,
    instructions: given(draft.instructions),
    allow: draft.allow.split(/[\s,]+/).filter((host) => host !== ''),
    scope: draft.scope.split(/\s+/).filter((pattern) => pattern !== ''),
  };
}
