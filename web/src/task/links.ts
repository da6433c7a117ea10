/** An address that a link may lead to; empty if it is of another kind. */
export function address(url: string): string {
  try {
    const { protocol } = new URL(url);
    return protocol === 'http:' || protocol === 'https:' || protocol === 'mailto:' ? url : '';
  } catch {
    // Relative ones would lead into this page.
    return '';
  }
}
