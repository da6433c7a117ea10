/**
 * The page as something installed: a service worker keeps it, and a page that is older than the daemon is not left
 * standing. Data is never kept.
 */

const RELOADED = 'offshoot.reloaded';
/** Twice within this time would be a circle. */
const CIRCLE_MS = 30_000;

/** A part of this page is not there any more: the daemon has a newer one. */
function onMissingPart(event: Event): void {
  let last: number;
  try {
    last = Number(sessionStorage.getItem(RELOADED) ?? 0);
    sessionStorage.setItem(RELOADED, String(Date.now()));
  } catch {
    // Refused: the error is shown instead.
    return;
  }
  if (Date.now() - last < CIRCLE_MS) return;
  event.preventDefault();
  location.reload();
}

export function install(): void {
  addEventListener('vite:preloadError', onMissingPart);
  // Only secure contexts have them; a phone with a certificate that nobody vouches for has none.
  if (import.meta.env.PROD && 'serviceWorker' in navigator) {
    navigator.serviceWorker.register('/sw.js').catch(() => undefined);
  }
}
