/** The page as something installed: it comes up without the daemon and says so, and keeps none of its data. */
import AxeBuilder from '@axe-core/playwright';
import { expect, test } from './stage.ts';

test.use({ serviceWorkers: 'allow', quiet: false });

test('it can be installed: a manifest, icons of the sizes it names', async ({ page }) => {
  await page.goto('/');
  const href = await page.locator('link[rel=manifest]').getAttribute('href');
  const answer = await page.request.get(href ?? '');
  const manifest = (await answer.json()) as { icons: { src: string; sizes: string; type: string }[] };
  for (const icon of manifest.icons) {
    const file = await page.request.get(icon.src);
    expect(file.ok(), icon.src).toBe(true);
    if (icon.type !== 'image/png') continue;
    const png = await file.body();
    expect(`${png.readUInt32BE(16)}x${png.readUInt32BE(20)}`).toBe(icon.sizes);
    expect(png.length).toBeLessThan(8_000);
  }
});

test('without a network the page comes up and says what it has not', async ({ page, stage, context }) => {
  await stage.task(stage.repository('kept'), 'Secret words\n@say hello', { name: 'kept-secret' });
  await page.goto('/');
  await expect(page.getByText('kept-secret').first()).toBeVisible();
  await page.evaluate(() => navigator.serviceWorker.ready);
  // The parts that this page is made of went through the worker only from now on.
  await page.reload();
  await expect(page.getByText('kept-secret').first()).toBeVisible();
  const kept = await page.evaluate(async () => {
    const found: { url: string; text: string }[] = [];
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const request of await cache.keys()) {
        const answer = await cache.match(request);
        found.push({ url: new URL(request.url).pathname, text: (await answer?.text()) ?? '' });
      }
    }
    return found;
  });
  expect(kept.map(({ url }) => url)).toContain('/');
  expect(kept.filter(({ url }) => url.startsWith('/v1'))).toEqual([]);
  expect(kept.filter(({ text }) => text.includes('kept-secret'))).toEqual([]);
  await context.setOffline(true);
  await page.reload();
  await expect(page.getByRole('heading', { name: 'The daemon does not answer' })).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await context.setOffline(false);
  await expect(page.getByText('kept-secret').first()).toBeVisible({ timeout: 30_000 });
});

test('a newer page is taken as soon as it can be had', async ({ page, context }) => {
  await page.goto('/');
  await page.evaluate(() => navigator.serviceWorker.ready);
  // What the worker asks for goes past the page's own routes.
  await context.route('**/settings', async (route) => {
    const answer = await route.fetch();
    await route.fulfill({
      response: answer,
      body: (await answer.text()).replace('<title>', '<title>Newer '),
    });
  });
  const answer = await page.goto('/settings');
  expect(await answer?.text()).toContain('<title>Newer ');
});
