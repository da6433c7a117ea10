/**
 * What the lines of a change are: as agents tell it (a path, then lines with a sign), and as git does (a unified diff).
 * Pure.
 */
export type Mark = 'path' | 'place' | 'gone' | 'come' | 'same' | 'aside';

/** What each line of a change is. */
export function marks(text: string): { mark: Mark; text: string }[] {
  let inHunk = false;
  return text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => {
      if (line.startsWith('diff --git ')) {
        inHunk = false;
        return { mark: 'path', text: /^diff --git "?a\/(.*?)"? "?b\//.exec(line)?.[1] ?? line.slice(11) };
      }
      if (
        !inHunk &&
        /^(index |--- |\+\+\+ |similarity |new file mode|deleted file mode|old mode|new mode)/.test(line)
      )
        return { mark: 'aside', text: line };
      if (line.startsWith('@@')) {
        inHunk = true;
        return { mark: 'place', text: line };
      }
      if (line.startsWith('+')) return { mark: 'come', text: line.slice(1) };
      if (line.startsWith('-')) return { mark: 'gone', text: line.slice(1) };
      if (line.startsWith(' ')) return { mark: 'same', text: line.slice(1) };
      return { mark: line.startsWith('\\') || line === '' || line === '…' ? 'aside' : 'path', text: line };
    });
}

/** How many lines come and go. */
export function counted(text: string): { added: number; deleted: number } {
  let [added, deleted] = [0, 0];
  for (const { mark } of marks(text)) {
    if (mark === 'come') added += 1;
    else if (mark === 'gone') deleted += 1;
  }
  return { added, deleted };
}
