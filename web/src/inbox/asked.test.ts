import { expect, test } from 'vitest';
import { choices, isDangerous, misses, plainWords, plainYes, wider, type Approval } from './asked';

type Asked = Approval['approval'];
const yes = { id: 'y', label: 'Yes', kind: 'allow_once' } as const;
const always = { id: 'a', label: 'Always', kind: 'allow_always' } as const;
const no = { id: 'n', label: 'No', kind: 'reject_once' } as const;
const asked = (subject: Asked['subject'], options: Asked['options'] = [yes, always, no]) =>
  ({ subject, options }) as Asked;
const command = (text: string) => asked({ type: 'command', command: text });
const files = (kind: 'edit' | 'delete', ...paths: string[]) => asked({ type: 'files', kind, paths });

test('a plain yes is one yes, never the agent’s own always', () => {
  expect(plainYes(command('ls'))).toBe(yes);
  expect(choices(command('ls'))).toEqual([]);
  const two = asked({ type: 'command', command: 'ls' }, [yes, { ...yes, id: 'z' }, always, no]);
  expect(plainYes(two)).toBeUndefined();
  expect(choices(two).map((option) => option.id)).toEqual(['y', 'z', 'n']);
  expect(plainYes(asked({ type: 'question' }))).toBeUndefined();
});

test('only reading and editing files is nothing to ask twice about', () => {
  expect(isDangerous(files('edit', '/w/a'))).toBe(false);
  expect(isDangerous(files('delete', '/w/a'))).toBe(true);
  expect(isDangerous(command('ls'))).toBe(true);
  expect(isDangerous(asked({ type: 'unclear' }))).toBe(true);
});

test('a rule over the beginning of a command knows plain words only', () => {
  expect(plainWords('cargo  test -p a')).toEqual(['cargo', 'test', '-p', 'a']);
  for (const bad of ['', ' ', 'a;b', 'a $b', 'A=b c', 'a\nb', 'a "b"', 'ä', 'a`b`'])
    expect(plainWords(bad), bad).toBeUndefined();
  expect(wider(command('cargo test -p a'))).toEqual({ is: 'prefix', text: 'cargo test' });
  expect(wider(command('ls && rm -rf /'))).toBeUndefined();
  expect(misses(command('cargo test -p a'), 'prefix', 'cargo test')).toBeUndefined();
  expect(misses(command('cargo testing'), 'prefix', 'cargo test')).toBeDefined();
});

test('a rule below a directory covers this very request', () => {
  expect(wider(files('edit', '/w/src/a'))).toEqual({ is: 'below', text: '/w/src' });
  expect(misses(files('edit', '/w/src/a'), 'below', '/w/')).toBeUndefined();
  expect(misses(files('edit', '/w/src/a', '/x/b'), 'below', '/w')).toBeDefined();
  for (const bad of ['w', '/w/../x', '/', '', '/w//src'])
    expect(misses(files('edit', '/w/src/a'), 'below', bad), bad).toBeDefined();
});
