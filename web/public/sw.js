/**
 * Keeps the page itself, so that it comes up without a network and says so. Nothing else: what the API answers is never
 * kept, nor even seen here.
 *
 * The page is asked for anew each time and taken from here only if nobody answers, so no old page is shown while a new
 * one can be had. Files under `/assets/` have their content's digest in their name and never change.
 */
const PAGE = 'offshoot-page';
const ASSETS = 'offshoot-assets';
/** Files of some versions; a version has about 40. */
const MOST_ASSETS = 120;
/** A network that has not answered by then is none. */
const PATIENCE_MS = 4000;

self.addEventListener('install', (event) => {
  event.waitUntil(
    (async () => {
      const page = await caches.open(PAGE);
      await page.addAll(['/', '/theme.js', '/icon.svg', '/manifest.webmanifest']);
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name !== PAGE && name !== ASSETS) await caches.delete(name);
      await self.clients.claim();
    })(),
  );
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== self.location.origin) return;
  if (url.pathname === '/v1' || url.pathname.startsWith('/v1/')) return;
  if (url.pathname.startsWith('/assets/')) event.respondWith(asset(request));
  else if (request.mode === 'navigate') event.respondWith(fresh(request, '/'));
  else if (/^\/[\w-]+\.(svg|png|js|webmanifest)$/.test(url.pathname))
    event.respondWith(fresh(request, url.pathname));
});

/** From the network; without one, what was kept. */
async function fresh(request, kept) {
  const cache = await caches.open(PAGE);
  try {
    const answer = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.ok && answer.type === 'basic') await cache.put(kept, answer.clone());
    return answer;
  } catch (error) {
    const known = await cache.match(kept);
    if (known) return known;
    throw error;
  }
}

async function asset(request) {
  const cache = await caches.open(ASSETS);
  const known = await cache.match(request);
  if (known) return known;
  const answer = await fetch(request);
  if (answer.ok && answer.type === 'basic') {
    await cache.put(request, answer.clone());
    // Kept in the order in which they came: the oldest go.
    const keys = await cache.keys();
    await Promise.all(keys.slice(0, Math.max(0, keys.length - MOST_ASSETS)).map((key) => cache.delete(key)));
  }
  return answer;
}
