import { expect, listen, test } from './stage.ts';

test('the page of the daemon itself: one address lets one browser in, once', async ({ browser, stage }) => {
  await stage.task(stage.repository('login'), 'Say hello\n@say hello', { name: 'say-hello' });
  await stage.until('say-hello', 'complete');
  const address = (await stage.offshoot('dashboard', '--print')).trim();
  const context = await browser.newContext();
  const page = await context.newPage();
  const complaints = listen(page);
  await page.goto(address);
  await expect(page.getByText('say-hello').first()).toBeVisible();
  expect(page.url()).not.toContain('code');
  expect(await page.evaluate(() => document.cookie)).toBe('');
  await page.reload();
  await page.getByText('say-hello').first().click();
  await expect(page.getByRole('heading', { name: 'say-hello' })).toBeVisible();
  // Live, through the daemon's own stream.
  const home = new URL(address).origin;
  await page.goto(home);
  await stage.task(stage.repository('login-two'), 'Say more\n@say more', { name: 'say-more' });
  await expect(page.getByText('say-more').first()).toBeVisible();
  expect(complaints.filter((text) => !text.includes('401'))).toEqual([]);

  const other = await browser.newContext();
  const stranger = await other.newPage();
  await stranger.goto(home);
  await expect(stranger.getByText('offshoot dashboard').first()).toBeVisible();
  await stranger.goto(address);
  await expect(stranger.getByText('say-hello')).toHaveCount(0);
  await expect(stranger.getByText('offshoot dashboard').first()).toBeVisible();
  await Promise.all([context.close(), other.close()]);
});
