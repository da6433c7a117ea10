/** A task's timeline, of real runs of the scripted agent. */
import AxeBuilder from '@axe-core/playwright';
import { expect, test } from './stage.ts';

const script = [
  'Make the greeting friendlier, and keep the tests green.',
  '',
  '@read README.md',
  '@say ## What I found\\n\\nThe greeting is in `src/greet.js`. Two things to do:\\n\\n- [x] look at it\\n- [ ] change the **words**\\n\\n| file | lines |\\n|---|---|\\n| src/greet.js | 3 |\\n\\n```js\\ngreet("you")\\n```\\n\\nSee [the guide](https://example.com/guide).',
  "@edit src/greet.js return 'hello' => return 'Hello there'",
  "@shell printf '\\033[32mPASS\\033[0m src/greet.test.js\\nTests: \\033[1m3 passed\\033[0m, 3 total\\n'",
  '@shell ls /nowhere',
  '@commit Greet warmly',
  '@say Done: the greeting is warmer, and all three tests pass.',
].join('\n');
const files = {
  'README.md': '# Greeter\n\nSays hello.\n',
  'src/greet.js': "export function greet(name) {\n  return 'hello' + name;\n}\n",
};

test('a run reads as a conversation: words, tool calls, changes, output, outcome', async ({
  page,
  stage,
}) => {
  const repo = stage.repository('read', files);
  const { task } = await stage.task(repo, script, {
    name: 'greet',
    check: 'printf "\\033[31mred\\033[0m ok\\n"',
  });
  await stage.until(task.id, 'complete', 'failed');
  await page.goto(`/tasks/${task.name}`);
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await expect(
    timeline.getByText('Done: the greeting is warmer, and all three tests pass.', { exact: true }),
  ).toBeVisible();
  await expect(timeline.getByRole('heading', { name: 'Run 1' })).toBeVisible();
  await expect(timeline.getByText('Changed src/greet.js')).toBeVisible();
  await expect(timeline.getByRole('group', { name: 'Change' }).first()).toContainText('Hello there');
  const link = timeline.getByRole('link', { name: 'the guide' });
  await expect(link).toHaveAttribute('rel', 'noopener noreferrer');
  await expect(link).toHaveAttribute('target', '_blank');
  await timeline.getByRole('button', { name: /completed: Ran printf/ }).click();
  const output = timeline.getByRole('group', { name: /Output of printf/ });
  await expect(output).toContainText('3 passed');
  expect(
    await output
      .locator('span')
      .first()
      .evaluate((span) => getComputedStyle(span).color),
  ).not.toBe(await output.evaluate((pre) => getComputedStyle(pre).color));
  await expect(timeline.getByText(/failed: Ran ls/)).toBeVisible();
  await expect(timeline.getByText(/Check .* passed/)).toBeVisible();

  await page.getByPlaceholder('Find in the timeline').fill('No such file');
  await expect(page.getByText('1 line', { exact: true })).toBeVisible();
  await page.getByPlaceholder('Find in the timeline').fill('');
  await page.getByRole('button', { name: 'Raw' }).click();
  await expect(page.getByRole('region', { name: 'Raw events' })).toContainText('"run_queued"');
});

for (const theme of ['light', 'dark'] as const) {
  for (const [device, width, height] of [
    ['laptop', 1280, 800],
    ['phone', 390, 844],
  ] as const) {
    test(`anybody can read it: ${theme}, ${device}`, async ({ page, stage }) => {
      await page.emulateMedia({ colorScheme: theme });
      await page.setViewportSize({ width, height });
      const repo = stage.repository(`axe-${theme}-${device}`, files);
      const { task } = await stage.task(repo, script, { name: 'greet', check: 'false' });
      await stage.until(task.id, 'complete', 'failed');
      await page.goto(`/tasks/${task.id}`);
      await expect(
        page.getByText('Done: the greeting is warmer, and all three tests pass.', { exact: true }),
      ).toBeVisible();
      const found = await new AxeBuilder({ page }).analyze();
      expect(found.violations).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
      if (process.env['LOOK'])
        await page.screenshot({ path: `${process.env['LOOK']}/task-${theme}-${device}.png` });
    });
  }
}
