/** Looking at what a task did, saying what is wrong with it, and landing it. */
import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { execFileSync } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Schemas, TaskView } from '../src/api';
import { expect, test, type Stage } from './stage.ts';

let made = 0;
const git = (dir: string, ...args: string[]) =>
  execFileSync('git', args, { cwd: dir, encoding: 'utf8' }).trim();

const source = Array.from({ length: 60 }, (_, n) => `export const value${n} = ${n};`).join('\n');

/** A finished task over a repository of its own. */
async function finished(
  stage: Stage,
  name: string,
  steps: string[],
  more: Partial<Schemas['TaskParams']> = {},
): Promise<{ view: TaskView; dir: string }> {
  made += 1;
  const dir = stage.repository(`review-${made}`, {
    'src/values.ts': `${source}\n`,
    'README.md': '# Values\n',
  });
  await stage.task(dir, `Work on it\n${steps.join('\n')}\n@say done`, { name, ...more });
  return { view: await stage.until(name, 'complete'), dir };
}

const edits = [
  '@edit src/values.ts value30 = 30 => value30 = 31',
  '@commit values: thirty is thirty-one',
  '@write src/more.ts export const more = true;\\n',
  '@commit values: more of them',
];

const line = (page: Page, text: string) => page.locator('[data-line]').filter({ hasText: text }).first();
const quiet = async (page: Page) => {
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
};

/** Rows stand below each other, whatever was measured when. */
async function stacked(page: Page) {
  const overlaps = () =>
    page.evaluate(() => {
      const boxes = [...document.querySelectorAll<HTMLElement>('[data-index]')]
        .sort((a, b) => Number(a.dataset['index']) - Number(b.dataset['index']))
        .map((row) => row.getBoundingClientRect());
      return boxes.filter((box, at) => Math.abs(box.top - (boxes[at - 1]?.bottom ?? box.top)) > 1).length;
    });
  await expect.poll(overlaps).toBe(0);
}

test('the whole, commit by commit, side by side; colours, and context on request', async ({
  page,
  stage,
}) => {
  await finished(stage, 'look', edits, { check: 'echo all is well' });
  await page.goto('/tasks/look/review');
  await expect(line(page, 'value30 = 31')).toBeVisible();
  await expect(page.getByText('Checks passed: echo all is well')).toBeVisible();
  await expect(page.getByText('Merges cleanly into main')).toBeVisible();
  await expect(page.locator('.c-key').first()).toHaveText('export');
  await quiet(page);
  await page.getByRole('button', { name: 'log' }).click();
  await expect(page.getByRole('dialog').getByText('all is well', { exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Close' }).click();
  // What is between hunks, and after the last.
  await expect(line(page, 'value2 = 2;')).toHaveCount(0);
  await page.getByRole('button', { name: 'Show 27 lines' }).click();
  await expect(line(page, 'value2 = 2;')).toBeVisible();
  await page.keyboard.press('u');
  await expect(line(page, 'value30 = 31')).toContainText('value30 = 30');
  await quiet(page);
  await page.keyboard.press('u');
  await page.keyboard.press('.');
  await expect(page.getByRole('heading', { name: 'values: thirty is thirty-one' })).toBeVisible();
  await expect(page.getByRole('heading', { name: 'src/more.ts' })).toHaveCount(0);
  await page.keyboard.press('.');
  await expect(page.getByRole('heading', { name: 'src/more.ts' })).toBeVisible();
  await page.getByLabel('What is shown').selectOption({ label: 'All changes' });
  await expect(page.getByRole('heading', { name: 'src/values.ts' })).toBeVisible();
});

test('whitespace can be left out', async ({ page, stage }) => {
  await finished(stage, 'spaces', [
    "@shell sed -i 's/^export const value5 /  export const value5 /' src/values.ts",
    '@edit src/values.ts value40 = 40 => value40 = 41',
    '@commit values: spaces',
  ]);
  await page.goto('/tasks/spaces/review');
  await expect(line(page, '  export const value5 = 5')).toBeVisible();
  await page.keyboard.press('w');
  await expect(line(page, 'value40 = 41')).toBeVisible();
  await expect(line(page, '  export const value5 = 5')).toHaveCount(0);
});

test('files that were seen stay so until they change', async ({ page, stage }) => {
  await finished(stage, 'seen', edits);
  await page.goto('/tasks/seen/review');
  const tree = page.getByRole('complementary', { name: 'Files' });
  await expect(tree.getByText('0 of 2 viewed')).toBeVisible();
  for (const box of await page.getByRole('checkbox', { name: 'Viewed' }).all()) await box.check();
  await expect(tree.getByText('2 of 2 viewed')).toBeVisible();
  await expect(line(page, 'value30 = 31')).toHaveCount(0);
  await page.reload();
  await expect(tree.getByText('2 of 2 viewed')).toBeVisible();
  await stage.api('POST', '/v1/tasks/seen/runs', {
    prompt: 'Again\n@edit src/values.ts value31 = 31 => value31 = 32\n@commit values: again\n@say done',
  });
  await stage.until('seen', 'complete');
  await expect(tree.getByText('1 of 2 viewed')).toBeVisible();
  await expect(line(page, 'value31 = 32')).toBeVisible();
});

test('comments are gathered, sent once, and told to be stale where the code moved on', async ({
  page,
  stage,
}) => {
  await finished(stage, 'said', edits);
  await page.goto('/tasks/said/review');
  // With the pointer.
  await page.getByRole('button', { name: 'Comment on line 31', exact: true }).last().click();
  await page.getByLabel('Comment on line 31').last().fill('why **thirty-one**? <img src=x onerror=alert(1)>');
  await page.keyboard.press('Control+Enter');
  await expect(page.locator('[data-comment="1"]')).toContainText('<img src=x onerror=alert(1)>');
  await stacked(page);
  await quiet(page);
  // With the keyboard.
  await page.keyboard.press('j');
  await page.keyboard.press('m');
  await page.keyboard.type('and this one?');
  await page.keyboard.press('Control+Enter');
  await expect(page.locator('[data-comment="2"]')).toContainText('and this one?');
  await page.locator('[data-comment="2"]').getByRole('button', { name: 'Change or remove' }).click();
  await page.getByRole('menuitem', { name: 'Edit' }).click();
  await page.getByRole('textbox', { name: 'Comment' }).fill('and that one?');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.locator('[data-comment="2"]')).toContainText('and that one?');
  await page.reload();
  await expect(page.locator('[data-comment]')).toHaveCount(2);
  await page.locator('[data-comment="2"]').getByRole('button', { name: 'Change or remove' }).click();
  await page.getByRole('menuitem', { name: 'Remove' }).click();
  await expect(page.locator('[data-comment]')).toHaveCount(1);
  await page.getByRole('button', { name: 'Send 1 comment…' }).click();
  const dialog = page.getByRole('dialog');
  await quiet(page);
  await dialog
    .getByLabel('What else')
    .fill('Do it\n@edit src/values.ts value30 = 31 => value_thirty = 30\n@commit values: by name\n@say done');
  await dialog.getByRole('button', { name: 'Send', exact: true }).click();
  await expect(dialog).toHaveCount(0);
  await stage.until('said', 'complete');
  const { task } = await stage.api<TaskView>('GET', '/v1/tasks/said');
  expect(task.runs).toHaveLength(2);
  expect(task.runs[1]?.prompt).toContain('why **thirty-one**?');
  await expect(page.locator('[data-comment="1"]')).toContainText('sent with run 2');
  await expect(page.locator('[data-comment="1"]')).toContainText('stale: line 31 is not there any more');
});

test('lands as its own commits', async ({ page, stage }) => {
  const { dir } = await finished(stage, 'lands', edits);
  await page.goto('/tasks/lands/review');
  await expect(line(page, 'value30 = 31')).toBeVisible();
  await page.keyboard.press('l');
  const dialog = page.getByRole('dialog', { name: 'Land lands' });
  await expect(dialog.getByText('is moved forward to it; no commit is made')).toBeVisible();
  await quiet(page);
  await dialog.getByRole('button', { name: 'Land', exact: true }).click();
  await expect(page.getByText('Landed as')).toBeVisible();
  expect(git(dir, 'log', '--format=%s', 'main').split('\n')).toEqual([
    'values: more of them',
    'values: thirty is thirty-one',
    'Begin',
  ]);
});

test('lands as one commit, with the message that was edited', async ({ page, stage }) => {
  const { dir } = await finished(stage, 'squashed', edits);
  await page.goto('/tasks/squashed/review');
  await expect(line(page, 'value30 = 31')).toBeVisible();
  await page.keyboard.press('l');
  const dialog = page.getByRole('dialog');
  await dialog.getByText('One commit').click();
  await expect(dialog.getByLabel('Message')).toHaveValue(/thirty is thirty-one/);
  await dialog.getByLabel('Message').fill('values: all of it\n\nIn one.');
  await dialog.getByRole('button', { name: 'Squash and land' }).click();
  await expect(page.getByText('Landed as')).toBeVisible();
  expect(git(dir, 'log', '--format=%B', '-1', 'main')).toContain('values: all of it\n\nIn one.');
  expect(git(dir, 'rev-list', '--count', 'main')).toBe('2');
});

test('a conflict is shown before anything is tried, and nothing is landed', async ({ page, stage }) => {
  const { dir } = await finished(stage, 'clash', edits);
  const values = join(dir, 'src/values.ts');
  appendFileSync(values, '');
  execFileSync('sed', ['-i', 's/value30 = 30/value30 = 99/', values]);
  git(dir, '-c', 'user.name=T', '-c', 'user.email=t@localhost', 'commit', '-qam', 'Ninety-nine');
  const before = git(dir, 'rev-parse', 'main');
  await page.goto('/tasks/clash/review');
  await expect(page.getByText('Conflicts with main in 1 file')).toBeVisible();
  await page.getByRole('button', { name: 'show', exact: true }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByText('value30 = 99')).toBeVisible();
  await expect(dialog.getByText('value30 = 31')).toBeVisible();
  await expect(dialog.getByRole('button', { name: 'Land', exact: true })).toBeDisabled();
  await quiet(page);
  expect(git(dir, 'rev-parse', 'main')).toBe(before);
  expect(readFileSync(values, 'utf8')).toContain('value30 = 99');
});

test('is discarded, after it was said what would be lost', async ({ page, stage }) => {
  await finished(stage, 'lost', edits);
  await page.goto('/tasks/lost/review');
  await expect(line(page, 'value30 = 31')).toBeVisible();
  await page.keyboard.press('l');
  await page.getByRole('button', { name: 'Discard instead…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Discard lost?' });
  await expect(dialog.getByText('holds work that is not landed')).toBeVisible();
  await dialog.getByLabel('Why').fill('another way was found');
  await dialog.getByRole('button', { name: 'Discard' }).click();
  await expect
    .poll(async () => (await stage.api<TaskView>('GET', '/v1/tasks/lost')).task.state)
    .toBe('discarded');
});

test('what stands out is flagged, and can be looked at alone', async ({ page, stage }) => {
  await finished(
    stage,
    'flags',
    [
      '@edit src/values.ts value1 = 1 => value1 = 2',
      '@write .github/workflows/ci.yml on: push',
      '@write docs/a.md text',
      "@shell printf '#!/bin/sh\\necho hi\\n' > run.sh; chmod +x run.sh; head -c 3000 /dev/urandom > src/blob.bin; git mv README.md READ.md",
      '@commit All kinds',
    ],
    { scope: ['src/**'] },
  );
  await page.goto('/tasks/flags/review');
  await expect(page.getByText('2 files would run on your machine, 4 files outside of src/**')).toBeVisible();
  await expect(page.getByText('Binary: it has no lines to show.')).toBeVisible();
  await expect(page.getByText('renamed from README.md')).toBeVisible();
  await quiet(page);
  await stacked(page);
  await page.keyboard.press('u');
  await stacked(page);
  await page.setViewportSize({ width: 900, height: 800 });
  await stacked(page);
  await page.keyboard.press('u');
  await stacked(page);
  await page.getByRole('button', { name: 'look at those' }).click();
  await stacked(page);
  await expect(page.getByRole('heading', { name: 'src/values.ts' })).toHaveCount(0);
  await expect(page.getByRole('heading', { name: '.github/workflows/ci.yml' })).toBeVisible();
  await expect(page.getByText('outside of what the task was to touch').first()).toBeVisible();
});

test('several repositories: files of all, comments in each, landed together', async ({ page, stage }) => {
  const shared = stage.repository('parts/shared', {
    'lib.ts': 'export const one = 1;\nexport const two = 2;\n',
  });
  const app = stage.repository('parts/app', {
    'offshoot.toml': '[[repos]]\nname = "shared"\npath = "../shared"\n',
    'app.ts': 'export const app = 1;\n',
  });
  await stage.task(
    app,
    [
      'Both',
      '@edit app.ts app = 1 => app = 2',
      '@commit app: two',
      "@shell cd ../shared && sed -i 's/two = 2/two = 3/' lib.ts && git commit -qam 'shared: three'",
      '@say done',
    ].join('\n'),
    { name: 'parts', repositories: { shared: 'main' } },
  );
  await stage.until('parts', 'complete');
  await page.goto('/tasks/parts/review');
  await expect(line(page, 'app = 2')).toBeVisible();
  await expect(line(page, 'two = 3')).toBeVisible();
  await line(page, 'two = 3').getByRole('button', { name: 'Comment on line 2' }).click();
  await page.getByLabel('Comment on line 2').last().fill('why three?');
  await page.keyboard.press('Control+Enter');
  await expect(page.locator('[data-comment="1"]')).toContainText('why three?');
  const { comments } = await stage.api<Schemas['CommentList']>('GET', '/v1/tasks/parts/comments');
  expect([comments[0]?.comment.repository, comments[0]?.stale]).toEqual(['shared', false]);
  await page.getByLabel('What is shown').selectOption({ index: 1 });
  await expect(page.locator('[data-line]').first()).toBeVisible();
  await page.getByLabel('What is shown').selectOption('all');
  await page.keyboard.press('l');
  const dialog = page.getByRole('dialog', { name: 'Land parts' });
  await expect(dialog.getByText('shared:')).toBeVisible();
  await dialog.getByRole('button', { name: 'Land', exact: true }).click();
  await expect(page.getByText('Landed as')).toBeVisible();
  expect(git(app, 'log', '-1', '--format=%s', 'main')).toBe('app: two');
  expect(git(shared, 'log', '-1', '--format=%s', 'main')).toBe('shared: three');
});

test('names, code and subjects are text, whatever they are made of', async ({ page, stage }) => {
  const spoken: string[] = [];
  page.on('dialog', (dialog) => spoken.push(dialog.message()));
  await finished(stage, 'hostile', [
    `@shell printf 'one' > '<img src=x onerror=alert(1)>.txt'; printf 'two' > "$(printf 'new\\nline.txt')"; printf 'x' > "$(printf '\\342\\200\\256gnp.exe')"`,
    `@shell printf '<script>alert(2)</script>\\nlet admin = \\342\\200\\256true\\342\\200\\254;\\n\\033]0;title\\007\\n@@ -1 +1 @@\\ndiff --git a/x b/x\\n' > code.js; head -c 90000 /dev/zero | tr '\\0' a > long.js`,
    '@commit <svg onload=alert(3)> & "quoted"',
  ]);
  await page.goto('/tasks/hostile/review');
  await expect(page.getByRole('heading', { name: '<img src=x onerror=alert(1)>.txt' })).toBeVisible();
  await expect(page.getByRole('heading', { name: 'new\\x0aline.txt' })).toBeVisible();
  await expect(page.getByRole('heading', { name: /^\\xe2\\x80\\xaegnp\.exe$/ })).toBeVisible();
  await expect(line(page, '<script>alert(2)</script>')).toBeVisible();
  await expect(line(page, 'let admin = U+202Etrue')).toBeVisible();
  await expect(line(page, '@@ -1 +1 @@')).toBeVisible();
  await expect(line(page, 'diff --git a/x b/x')).toBeVisible();
  await page.getByRole('button', { name: 'show 89,400 more characters' }).click();
  await page.keyboard.press('.');
  await expect(page.getByRole('heading', { name: '<svg onload=alert(3)> & "quoted"' })).toBeVisible();
  expect(await page.locator('main img, main script, main svg[onload]').count()).toBe(0);
  expect(spoken).toEqual([]);
});

test('thousands of files and lines', async ({ page, stage }) => {
  await finished(stage, 'large', [
    `@shell for d in $(seq 50); do mkdir -p big/$d; for f in $(seq 100); do seq -f "let x%g = $d * $f;" 40 > big/$d/$f.ts; done; done`,
    '@commit Five thousand files',
  ]);
  await page.goto('/tasks/large/review');
  await expect(page.getByRole('heading', { name: 'big/1/1.ts' })).toBeVisible({ timeout: 30_000 });
  // How long the page is held up while one scrolls all through it.
  const longest = await page.evaluate(async () => {
    const box = document.querySelector('[data-diff]');
    if (!box) throw new Error('no diff');
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    await frame();
    let worst = 0;
    const times: number[] = [];
    for (let step = 1; step <= 40; step += 1) {
      const began = performance.now();
      box.scrollTop = (box.scrollHeight * step) / 40;
      await frame();
      await frame();
      times.push(performance.now() - began);
      worst = Math.max(worst, performance.now() - began);
    }
    return { worst, median: times.sort((a, b) => a - b)[20], height: box.scrollHeight };
  });
  console.log(
    `scrolled ${longest.height} px: median ${longest.median?.toFixed(0)} ms, worst ${longest.worst.toFixed(0)} ms a step`,
  );
  expect(longest.median).toBeLessThan(100);
  await expect(page.getByRole('heading', { name: /^big\// }).last()).toBeVisible();
  expect(await page.locator('[data-index]').count()).toBeLessThan(200);
});

test.describe('with a thumb', () => {
  test.use({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });

  test('a line is tapped and commented on; files are a sheet', async ({ page, stage }) => {
    await finished(stage, 'thumb', edits);
    await page.goto('/tasks/thumb/review');
    await line(page, 'value30 = 31').tap();
    await page.getByRole('button', { name: 'Comment on this line' }).tap();
    await page.getByLabel('Comment on line 31').last().fill('from a phone');
    await page.getByRole('button', { name: 'Add comment' }).tap();
    await expect(page.locator('[data-comment="1"]')).toContainText('from a phone');
    await quiet(page);
    await page.getByRole('button', { name: 'Files' }).tap();
    await page.getByRole('dialog', { name: 'Files' }).getByText('more.ts').tap();
    await expect(page.getByRole('heading', { name: 'src/more.ts' })).toBeInViewport();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
  });
});
