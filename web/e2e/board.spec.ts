import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { seed } from './seed.ts';
import { expect, test } from './stage.ts';

test.use({ config: '[machine]\nmax-runs = 4\n' });

// eslint-disable-next-line no-control-regex -- this is what is looked for
const ODD = /[\u202e\u0007\u001b]/;

const lanes = (page: Page) => page.locator('section[aria-label] > h2').allInnerTexts();
const row = (page: Page, name: string) =>
  page.locator('[data-row]').filter({ has: page.getByRole('link', { name }) });

test('an empty board says what to do', async ({ page }) => {
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'No agent has anything to do' })).toBeVisible();
  await expect(page.getByText('offshoot run "what is to be done"')).toBeVisible();
  await page.keyboard.press('c');
  await expect(page).toHaveURL(/\/new$/);
});

test('tasks stand in lanes, who waits for the person first, and are dealt with by keyboard', async ({
  page,
  stage,
}) => {
  await seed(stage);
  await page.goto('/');
  await expect(row(page, 'speed-up-the-tests')).toBeVisible();
  expect((await lanes(page)).map((text) => text.replace(/\s+/g, ' '))).toEqual([
    'Needs attention 1',
    'Complete 1',
    'Failed 2',
    'Running 1',
    'Landed',
  ]);
  const filter = row(page, 'add-a-date-filter');
  await expect(filter).toContainText('1 file +48');
  await expect(filter).toContainText('✓ check');
  await expect(filter).toContainText('orders: filter by date');
  await expect(row(page, 'retry-webhooks')).toContainText('✗ check');
  await expect(row(page, 'paginate-the-audit-log')).toContainText('echo cargo test -p audit');
  await expect(page).toHaveTitle('(1) Offshoot');

  // What is landed is read when it is looked at.
  await page.getByRole('button', { name: 'Landed' }).click();
  await expect(row(page, 'fix-the-typo')).toBeVisible();

  // j and k walk, / filters, Enter opens.
  await page.keyboard.press('j');
  await expect(page.getByRole('link', { name: 'speed-up-the-tests' })).toBeFocused();
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  await expect(page.getByRole('link', { name: 'speed-up-the-tests' })).toBeFocused();
  await page.keyboard.press('/');
  await page.keyboard.type('is:failed webhooks');
  await expect(page.locator('[data-row]')).toHaveCount(1);
  await expect(page).toHaveURL(/q=is/);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'retry-webhooks' })).toBeVisible();
  await page.goBack();

  // By project.
  await page.keyboard.press('/');
  await page.keyboard.press('Escape');
  await page.keyboard.press('p');
  await expect(page.locator('section[aria-label="payments-api"] [data-row]')).toHaveCount(2);
  await expect(row(page, 'retry-webhooks')).toContainText('failed');
});

test('several tasks are stopped, followed up and discarded at once', async ({ page, stage }) => {
  const repository = stage.repository('several');
  for (const name of ['one', 'two', 'three']) await stage.task(repository, `${name}\n@sleep 3000`, { name });
  await page.goto('/');
  for (const name of ['one', 'two', 'three']) await expect(row(page, name)).toBeVisible();
  await expect(page.getByText('3\u00a0tasks')).toBeVisible();
  for (const key of ['j', 'x', 'j', 'x']) await page.keyboard.press(key);
  const bar = page.getByRole('toolbar', { name: 'Selected tasks' });
  await expect(bar).toContainText('2 selected');
  await bar.getByRole('button', { name: 'Stop' }).click();
  await expect(page.locator('section[aria-label="Failed"] [data-row]')).toHaveCount(2);

  await page.keyboard.press('Control+a');
  await expect(bar).toContainText('3 selected');
  await page.keyboard.press('f');
  const dialog = page.getByRole('dialog', { name: 'Follow up on 2 tasks' });
  await dialog.getByRole('textbox').fill('Go on\n@say went on');
  await page.keyboard.press('Control+Enter');
  await expect(page.locator('section[aria-label="Complete"] [data-row]')).toHaveCount(2);

  await page.keyboard.press('Control+a');
  await page.keyboard.press('d');
  await page
    .getByRole('dialog', { name: 'Discard 3 tasks?' })
    .getByRole('button', { name: 'Discard' })
    .click();
  await expect(page.getByRole('heading', { name: 'No agent has anything to do' })).toBeVisible();
});

test('nothing moves under the pointer; what moved on is said, and goes to its place afterwards', async ({
  page,
  stage,
}) => {
  const repository = stage.repository('still');
  const first = await stage.task(repository, 'first\n@sleep 3000', { name: 'first' });
  await stage.task(repository, 'second\n@sleep 3000', { name: 'second' });
  await page.goto('/');
  await expect(page.locator('section[aria-label="Running"] [data-row]')).toHaveCount(2);
  await row(page, 'second').hover();
  await stage.api('POST', `/v1/tasks/${first.task.id}/stop`);
  // Its lane is as it was, its word is true.
  await expect(row(page, 'first')).toContainText('stopped');
  await expect(page.locator('section[aria-label="Running"] [data-row]')).toHaveCount(2);
  await expect(page.getByRole('button', { name: '1 task has moved on; put in order' })).toBeVisible();
  await page.mouse.move(640, 10);
  await expect(page.locator('section[aria-label="Failed"] [data-row]')).toHaveCount(1);
});

test('what an agent writes is shown as text, and cannot hide or turn around other text', async ({
  page,
  stage,
}) => {
  const repository = stage.repository('hostile');
  const bad = '<img src=x onerror=alert(1)>\u202e\u0007[1m';
  const task = await stage.task(
    repository,
    `${bad}\n@shell echo '${bad}' # <script>alert(2)</script>\n@sleep 3000`,
    { name: 'hostile' },
  );
  await stage.until(task.task.id, 'running');
  await page.goto('/');
  await expect(row(page, 'hostile')).toContainText('<script>');
  expect(await page.locator('#root').evaluate((root) => root.querySelectorAll('img, script').length)).toBe(0);
  expect(await page.locator('#root').innerText()).not.toMatch(ODD);
  await page.goto('/tasks/hostile');
  await expect(page.getByRole('heading', { name: 'hostile' })).toBeVisible();
  expect(await page.locator('#root').evaluate((root) => root.querySelectorAll('img, script').length)).toBe(0);
  expect(await page.locator('#root').innerText()).not.toMatch(ODD);
});

test('the palette finds tasks and commands', async ({ page, stage }) => {
  await stage.task(stage.repository('palette'), 'x\n@sleep 3000', { name: 'find-me' });
  await page.goto('/capacity');
  await expect(page.getByRole('heading', { name: 'Capacity' })).toBeVisible();
  await page.keyboard.press('Control+k');
  await expect(page.getByPlaceholder('Find a task or a command')).toBeFocused();
  await page.keyboard.type('find-me');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'find-me' })).toBeVisible();
  await page.keyboard.press('Control+k');
  await expect(page.getByPlaceholder('Find a task or a command')).toBeFocused();
  await page.keyboard.type('dark');
  await page.keyboard.press('Enter');
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard' })).toContainText('Write the next prompt');
});

for (const scheme of ['light', 'dark'] as const) {
  for (const [size, width, height] of [
    ['laptop', 1280, 800],
    ['phone', 390, 844],
  ] as const) {
    test(`every page is accessible and nothing sticks out: ${size}, ${scheme}`, async ({ page, stage }) => {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height });
      await seed(stage);
      for (const path of [
        '/',
        '/?group=project',
        '/?q=nothing',
        '/new',
        '/capacity',
        '/settings',
        '/tasks/retry-webhooks',
        '/tasks/nothing',
      ]) {
        await page.goto(path);
        await expect(page.locator('h1, h2').first()).toBeAttached();
        await expect(page.getByText(/Reading|Measuring/)).toHaveCount(0);
        const { violations } = await new AxeBuilder({ page })
          .withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'])
          .analyze();
        expect(
          violations.map((found) => `${path} ${found.id}: ${found.nodes.map((node) => node.html).join(' ')}`),
        ).toEqual([]);
        const { inner, outer } = await page
          .locator('#main')
          .evaluate((main) => ({ inner: main.scrollWidth, outer: main.clientWidth }));
        expect(inner, `${path} is wider than the screen`).toBeLessThanOrEqual(outer);
      }
      await page.goto('/');
      await expect(row(page, 'add-a-date-filter')).toBeVisible();
      await expect(page).toHaveScreenshot(`board-${size}-${scheme}.png`, {
        // Figures that differ each time.
        mask: [page.locator('[data-elapsed]'), page.locator('[data-memory]')],
        maskColor: scheme === 'dark' ? '#2a2f3a' : '#e6e9ef',
      });
    });
  }
}
