/** Many prompts out of one text. Pure. */

/** What lists begin their lines with: `-`, `*`, `1.`, `2)`, `[ ]`. */
const BULLET = /^\s*(?:(?:[-*•+]|\d+[.)])\s+)?(?:\[[ xX]?\]\s+)?/;

/**
 * One prompt a line, without the marks of a list; or, where lines of dashes stand between them, everything between two
 * of those.
 */
export function split(text: string): string[] {
  const lines = text.split(/\r?\n/);
  if (lines.some(isRule)) {
    const parts: string[][] = [[]];
    for (const line of lines) {
      if (isRule(line)) parts.push([]);
      else parts.at(-1)?.push(line);
    }
    return parts.map((part) => part.join('\n').trim()).filter((part) => part !== '');
  }
  return lines.map((line) => line.replace(BULLET, '').trim()).filter((line) => line !== '');
}

function isRule(line: string): boolean {
  return /^\s*-{3,}\s*$/.test(line);
}

/** Whether a text looks like a list that somebody pasted. */
export function looksLikeList(text: string): boolean {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  return lines.length > 1 && lines.every((line) => /^\s*(?:[-*•+]|\d+[.)])\s+/.test(line));
}
