import { expect, test } from 'vitest';
import { linked, pasted } from './quiet';
import { added, empty, named, shown, splitUp, without, type Tab } from './tabs';

const tab = (id: string): Tab => ({ id, title: id, is: 'terminal' });
const three = ['a', 'b', 'c'].reduce((layout, id) => added(layout, tab(id), 0), empty);

test('a tab is shown where one works, and in one pane at most', () => {
  expect(three.panes).toEqual(['c']);
  const two = splitUp(three);
  expect(two.panes).toEqual(['c', 'a']);
  expect(shown(two, 'b', 1).panes).toEqual(['c', 'b']);
  expect(shown(two, 'c', 1).panes).toEqual(['a', 'c']);
  expect(splitUp(two).panes).toEqual(['c']);
});

test('what is closed makes room for its neighbour, and two panes want two tabs', () => {
  expect(without(three, 'c').panes).toEqual(['b']);
  expect(without(without(splitUp(three), 'c'), 'a').panes).toEqual(['b']);
  expect(without(without(without(three, 'a'), 'b'), 'c')).toMatchObject({ tabs: [], panes: [undefined] });
});

test('names are not taken twice', () => {
  const layout = added(empty, { ...tab('x'), title: 'shell' }, 0);
  expect(named(empty, 'shell')).toBe('shell');
  expect(named(layout, 'shell')).toBe('shell 2');
});

test('what is pasted has no keys in it', () => {
  expect(pasted('ls\n\ta\u001b[201~\u0003\u009b1m\u007f é\r\n')).toBe('ls\n\ta[201~1m é\r\n');
});

test('only addresses of the web are followed', () => {
  expect(linked('https://example.com/a')).toBe('https://example.com/a');
  for (const bad of ['javascript:alert(1)', 'file:///etc/passwd', 'data:text/html,x', 'vscode://x', 'x', ''])
    expect(linked(bad)).toBeUndefined();
});
