import { expect, test } from './stage.ts';

test.use({ config: '[machine]\nmax-runs = 2\n' });

test('a task is dispatched, and its draft survives a reload', async ({ page, stage }) => {
  const repository = stage.repository('one', { 'README.md': '# one\n' });
  await page.goto('/new');
  await page.getByLabel('Repository').fill(repository);
  await page.getByLabel('What is to be done').fill('Write a file\n@write src/a.txt a\n@commit a\n@say done');
  await page.getByText('Scripted agent').click();
  await page.getByLabel('Check').fill('test -e src/a.txt');
  await page.getByLabel('Scope').fill('src/');
  await page.reload();
  await expect(page.getByLabel('What is to be done')).toHaveValue(/Write a file/);
  await expect(page.getByLabel('Check')).toHaveValue('test -e src/a.txt');
  const forecast = page.getByRole('region', { name: 'What will happen' });
  await expect(forecast).toContainText('Starts at once.');
  await page.getByLabel('What is to be done').press('Control+Enter');
  await expect(page.getByRole('heading', { name: 'write-a-file' })).toBeVisible();
  await expect(page.locator('header').getByText('complete')).toBeVisible();
  await expect(page.getByText('the agent finished and the check passed').first()).toBeVisible();
  await page.goto('/new');
  await expect(page.getByLabel('What is to be done')).toHaveValue('');
  await expect(page.getByLabel('Repository')).toHaveValue(repository);
});

test('a pasted list becomes as many tasks; it is told which of them wait', async ({ page, stage }) => {
  const repository = stage.repository('many');
  await page.goto('/new');
  await page.getByLabel('Repository').fill(repository);
  await page.getByText('Scripted agent').click();
  await page.getByLabel('What is to be done').focus();
  await page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', '- [ ] first @sleep\n- second\n- third\n');
    document.activeElement?.dispatchEvent(
      new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }),
    );
  });
  await expect(page.getByLabel('Each line is a task of its own')).toBeChecked();
  const forecast = page.getByRole('region', { name: 'What will happen' });
  await expect(forecast).toContainText('2 start at once, 1 wait for a place: at most 2 runs work at a time.');
  await expect(forecast.getByRole('listitem')).toHaveText(['first @sleep', 'second', 'third']);
  await page.getByRole('button', { name: 'Dispatch 3 tasks' }).click();
  await expect(page).toHaveURL(/\/$/);
  await expect(page.locator('[data-row]')).toHaveCount(3);
});

test('one that is refused leaves the others alone, and stays to be mended', async ({ page, stage }) => {
  const repository = stage.repository('refused');
  await page.goto('/new');
  await page.getByLabel('Repository').fill(repository);
  await page.getByText('Scripted agent').click();
  await page.getByLabel('Each line is a task of its own').check();
  const long = `too long ${'x'.repeat(300_000)}`;
  await page.getByLabel(/What is to be done/).fill(`good one\n${long}\ngood two`);
  await page.getByRole('button', { name: 'Dispatch 3 tasks' }).click();
  await expect(page.getByRole('alert')).toBeVisible();
  await expect(page.getByLabel(/What is to be done/)).toHaveValue(long);
  const { tasks } = await stage.api<{ tasks: unknown[] }>('GET', '/v1/tasks');
  expect(tasks).toHaveLength(2);
});

test('a directory that is no repository is said before anything is sent', async ({ page }) => {
  await page.goto('/new');
  await page.getByLabel('Repository').fill('/nonexistent');
  await expect(page.getByRole('alert')).toBeVisible();
});

test('capacity tells what runs, what waits and for what', async ({ page, stage }) => {
  const repository = stage.repository('full');
  for (const name of ['one', 'two', 'three']) await stage.task(repository, `${name}\n@sleep 3000`, { name });
  await stage.until('one', 'running');
  await stage.until('two', 'running');
  await page.goto('/capacity');
  await expect(
    page.getByText('Full: the next run waits for a place: at most 2 runs work at a time.'),
  ).toBeVisible();
  await expect(page.getByText('2 of 2')).toBeVisible();
  await expect(page.getByRole('row').filter({ hasText: 'one, running' })).toContainText('MiB');
  await expect(page.getByRole('listitem').filter({ hasText: 'three' })).toBeVisible();
  await page.getByRole('button', { name: 'Clean up' }).click();
  await expect(page.getByText('came free')).toBeVisible();
});
