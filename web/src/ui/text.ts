/**
 * Texts of agents, made fit to be shown. They are hostile: React makes text nodes of them, so no markup comes of them,
 * and here what would turn the reading direction around, hide or move other text is replaced by a visible mark.
 */

// Controls but tab and line feed; marks and overrides of direction; what is invisible; line separators.
const ODD =
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** Text over several lines. */
export function safe(text: string): string {
  return text.replace(/\r\n/g, '\n').replace(ODD, '\ufffd');
}

/** A name, a title: text for one line. */
export function oneLine(text: string): string {
  return safe(text.trim()).replace(/\s+/g, ' ');
}

/** The end of a path: what a person calls a repository. */
export function baseName(path: string): string {
  return (
    oneLine(
      path
        .replace(/\/+$/, '')
        .replace(/\/?\.git$/, '')
        .split('/')
        .pop() ?? path,
    ) || path
  );
}
