/** A long timeline, one that goes on while it is read, and texts that try to be more than text. */
import { expect, test } from './stage.ts';

test('a log of more than 5,000 events opens at its end, scrolls smoothly and has a beginning', async ({
  page,
  stage,
}) => {
  test.setTimeout(120_000);
  const repo = stage.repository('long');
  const { task } = await stage.task(repo, 'Look everywhere\n@calls 5000\n@say The last words.', {
    name: 'long',
  });
  await stage.until(task.id, 'complete', 'failed');
  let after = 0;
  let events = 0;
  for (;;) {
    const page = await stage.api<{ entries: unknown[]; next: number }>(
      'GET',
      `/v1/tasks/${task.id}/events?after=${after}&limit=5000`,
    );
    events += page.entries.length;
    if (page.entries.length < 5000) break;
    after = page.next;
  }
  await page.goto(`/tasks/${task.id}`);
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await expect(timeline.getByText('The last words.', { exact: true })).toBeVisible();
  const opened = await page.evaluate(() => performance.now());

  // A second of wheel, page after page read above: what is looked at stays where it is, and no frame is long.
  await page.evaluate(() => {
    const frames: number[] = [];
    Object.assign(window, { frames });
    let last = performance.now();
    const tick = (now: number) => {
      frames.push(now - last);
      last = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });
  await timeline.hover();
  for (let turn = 0; turn < 60; turn += 1) {
    await page.mouse.wheel(0, -600);
    await page.waitForTimeout(16);
  }
  const frames = await page.evaluate(() => (window as unknown as { frames: number[] }).frames.slice(5));
  frames.sort((a, b) => a - b);
  const drawn = await page.locator('[data-item]').count();
  console.log(
    `${events} events: shown ${opened.toFixed(0)} ms after the document, ${drawn} lines drawn, frames p50 ${frames[Math.floor(frames.length / 2)]?.toFixed(0)} ms, p95 ${frames[Math.floor(frames.length * 0.95)]?.toFixed(0)} ms, longest ${frames.at(-1)?.toFixed(0)} ms`,
  );
  expect(events).toBeGreaterThan(5000);
  // Two frames of a page that keeps up; a busy machine may be late once in a while.
  expect(frames[Math.floor(frames.length * 0.95)]).toBeLessThan(50);
  expect(drawn).toBeLessThan(120);

  // What is searched for is found on pages that were not read yet, too.
  await page.getByPlaceholder('Find in the timeline').fill('Look everywhere');
  const all = page.getByRole('button', { name: 'Load all' });
  await expect(timeline.getByRole('heading', { name: 'Run 1' })).toBeVisible({ timeout: 15_000 });
  await expect(all).toBeHidden();
});

test('who reads is not moved, and is told what is new; who is at the end is taken along', async ({
  page,
  stage,
}) => {
  test.setTimeout(90_000);
  const repo = stage.repository('going');
  const steps = Array.from(
    { length: 12 },
    (_, number) => `@read README.md\n@sleep 0.4\n@say step ${number} `,
  );
  const { task } = await stage.task(
    repo,
    `Go\n@calls 60\n@say ready to be read\n@sleep 3\n${steps.join('\n')}`,
    { name: 'going' },
  );
  await page.goto(`/tasks/${task.id}`);
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await expect(timeline.getByText('ready to be read', { exact: true })).toBeVisible({ timeout: 20_000 });
  await timeline.hover();
  await page.mouse.wheel(0, -700);
  await expect(page.getByRole('button', { name: 'To the newest' })).toBeVisible();
  const line = timeline.getByText('Look at thing 40', { exact: true });
  await line.scrollIntoViewIfNeeded();
  const before = (await line.boundingBox())?.y;
  await expect(page.getByRole('button', { name: /^\d+ new/ })).toBeVisible({ timeout: 15_000 });
  expect((await line.boundingBox())?.y).toBe(before);
  await page.getByRole('button', { name: /^\d+ new/ }).click();
  await expect(page.getByRole('button', { name: /new$/ })).toBeHidden();
  await stage.until(task.id, 'complete', 'failed');
  await expect(timeline.getByText(/^complete: /)).toBeInViewport();
});

test('a draft survives a reload and is sent when nothing runs; turns before are folded', async ({
  page,
  stage,
}) => {
  const { task } = await stage.task(stage.repository('draft'), 'one\n@calls 3\n@say first answer', {
    name: 'draft',
  });
  await stage.until(task.id, 'complete');
  await page.goto(`/tasks/${task.name}`);
  const prompt = page.getByRole('textbox', { name: 'The next prompt' });
  await prompt.fill('two\n@calls 2\n@say second answer');
  await page.reload();
  await expect(prompt).toHaveValue(/^two/);
  await page.getByRole('button', { name: 'Send' }).click();
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await expect(timeline.getByText('second answer', { exact: true })).toBeVisible();
  await expect(prompt).toHaveValue('');
  await expect(timeline.getByText('first answer', { exact: true })).toBeVisible();
  await expect(timeline.getByText('Look at thing 2', { exact: true })).toBeHidden();
  await timeline.getByRole('button', { name: /3 tool calls/ }).click();
  await expect(timeline.getByText('Look at thing 2', { exact: true })).toBeVisible();
});

test('a checkpoint shows what it changed, and is gone back to', async ({ page, stage }) => {
  const repo = stage.repository('steps', { 'a.txt': 'one\n' });
  const { task } = await stage.task(repo, 'go\n@write a.txt two\n@write a.txt three\n@say done', {
    name: 'steps',
  });
  await stage.until(task.id, 'complete');
  await page.goto(`/tasks/${task.name}`);
  const timeline = page.getByRole('region', { name: 'Timeline' });
  const step = timeline.getByRole('button', { name: /checkpoint: Checkpoint 1/ });
  await step.click();
  await expect(timeline.getByRole('group', { name: 'Change' }).last()).toContainText('one');
  await timeline.getByRole('button', { name: 'Go back to this…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Go back' }).click();
  await expect(timeline.getByText('the files are those of checkpoint 1 again')).toBeVisible();
});

/** What agents might write to be more than text. */
const corpus = [
  '<img src=x onerror=window.evil=1>',
  '<script>window.evil=1</script>',
  '<svg/onload=window.evil=1>',
  '[a](javascript:window.evil=1)',
  '[b](data:text/html,<script>window.evil=1</script>)',
  '![c](https://example.com/c.png)',
  '<a href="javascript:window.evil=1">d</a>',
  '"><iframe srcdoc="<script>parent.evil=1</script>">',
  '<style>body{display:none}</style>',
  '<javascript:window.evil=1>',
  "'-window.evil=1-'",
  '{{constructor.constructor("window.evil=1")()}}',
  '\u202egnp.exe',
];

test('texts of agents stay texts, in every field', async ({ page, stage }) => {
  test.setTimeout(90_000);
  const requests: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  page.on('dialog', (dialog) => {
    throw new Error(`a dialog: ${dialog.message()}`);
  });
  const name = '<img src=x onerror=window.evil=1>.txt';
  const app = `[apps.web]\ncommand = "printf '%s\\\\n' '<img src=x onerror=window.evil=1>'; sleep 60"\nport = 3000\n`;
  const repo = stage.repository('xss', { 'a.txt': 'a\n', 'offshoot.toml': app });
  const all = corpus.join('\\n\\n');
  const { task } = await stage.task(
    repo,
    [
      corpus.join(' '),
      `@write ${name} <img src=x onerror=window.evil=1>`,
      `@shell printf '%s' '<svg/onload=window.evil=1>'`,
      `@read <img src=x onerror=window.evil=1>`,
      `@commit <img src=x onerror=window.evil=1>`,
      `@say ${all}`,
    ].join('\n'),
    { name: 'xss', check: "echo '<img src=x onerror=window.evil=1>'; false" },
  );
  await stage.until(task.id, 'complete', 'failed');
  await page.goto(`/tasks/${task.name}`);
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await expect(timeline.getByText("'-window.evil=1-'", { exact: true })).toBeVisible();
  const openAll = () =>
    timeline.locator('button[aria-expanded=false]').evaluateAll((buttons) => {
      for (const button of buttons) (button as HTMLElement).click();
    });
  await openAll();
  await timeline.hover();
  await page.mouse.wheel(0, -5000);
  await openAll();
  await page.getByRole('button', { name: 'Raw' }).click();
  await page.goto(`/tasks/${task.name}/qa`);
  await page.getByRole('listitem', { name: 'App web' }).getByRole('button', { name: 'Start' }).click();
  await page.getByRole('listitem', { name: 'App web' }).getByRole('button', { name: 'Log' }).click();
  await expect(page.getByRole('log')).toContainText('<img src=x');
  await page.goto(`/tasks/${task.name}`);
  await expect(timeline.getByText("'-window.evil=1-'", { exact: true })).toBeVisible();

  expect(await page.evaluate(() => 'evil' in window)).toBe(false);
  expect(await page.locator('#root img, #root iframe, #root script, #root style').count()).toBe(0);
  const links = await timeline
    .locator('a')
    .evaluateAll((all) => all.map((a) => a.getAttribute('href') ?? ''));
  for (const link of links) expect(link).toMatch(/^https?:|^\//);
  expect(await page.evaluate(() => document.body.innerText.includes('\u202e'))).toBe(false);
  const origin = new URL(page.url()).origin;
  expect(requests.filter((url) => !url.startsWith(origin))).toEqual([]);
});

test('what waits for a person is said, and what was answered', async ({ page, stage }) => {
  const { task } = await stage.task(stage.repository('asks'), 'go\n@shell echo allowed-now\n@say done', {
    name: 'asks',
    permission: 'ask',
  });
  const { task: waiting } = await stage.until(task.id, 'needs_attention');
  await page.goto(`/tasks/${task.name}`);
  const timeline = page.getByRole('region', { name: 'Timeline' });
  await expect(timeline.getByText('Waits for you: ')).toBeVisible();
  await expect(timeline.getByRole('link', { name: 'Answer' })).toHaveAttribute('href', '/approvals');
  if (process.env['LOOK']) await page.screenshot({ path: `${process.env['LOOK']}/task-asks.png` });
  await stage.api('POST', `/v1/approvals/${waiting.approvals?.[0]?.id ?? ''}`, { verdict: 'allow' });
  await expect(timeline.getByText(/Allowed: /)).toBeVisible();
  await expect(timeline.getByText('Waits for you: ')).toBeHidden();
  await expect(timeline.getByText('done', { exact: true })).toBeVisible();
});
