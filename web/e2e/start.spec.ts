import { expect, test } from './stage.ts';

test('the page comes up and asks the daemon', async ({ page, stage }) => {
  await stage.task(stage.repository('start'), 'Say hello\n@say hello', { name: 'say-hello' });
  await page.goto('/tasks/say-hello');
  await expect(page.getByRole('heading', { name: 'say-hello' })).toBeVisible();
  await expect(page.getByText('complete').first()).toBeVisible();
});
