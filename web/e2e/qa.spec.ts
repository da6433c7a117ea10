/** Terminals, apps and services of a task's environment. */
import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test, type Stage } from './stage.ts';

const look = process.env['LOOK'];

async function ready(stage: Stage, name: string, files: Record<string, string> = {}) {
  const repo = stage.repository(name, { 'README.md': 'x\n', ...files });
  const { task } = await stage.task(repo, 'go\n@say done', { name });
  return (await stage.until(task.id, 'complete')).task;
}

/** What a terminal shows, as a person reads it. */
const screen = (page: Page, index = 0) => page.locator('.xterm-rows').nth(index);

async function terminal(page: Page, task: string) {
  await page.goto(`/tasks/${task}/qa`);
  await page.getByRole('button', { name: 'Open a terminal' }).click();
  await expect(screen(page)).toContainText(/[$#>] *$/m, { timeout: 20_000 });
  await page.locator('.xterm-helper-textarea').first().focus();
}

test('a terminal types, resizes, survives a reload and a restart of the daemon', async ({ page, stage }) => {
  test.setTimeout(120_000);
  const task = await ready(stage, 'shell');
  await terminal(page, task.name);
  await page.keyboard.type('echo he""llo $((40+2))\n');
  await expect(screen(page)).toContainText('hello 42');

  const columns = async (mark: string) => {
    await page.keyboard.type(`clear; echo ${mark}$(stty size)${mark}\n`);
    await expect(screen(page)).toContainText(new RegExp(`${mark}\\d+ \\d+${mark}`));
    return Number(/\d+ (\d+)/.exec((await screen(page).textContent()) ?? '')?.[1]);
  };
  const wide = await columns('A');
  await page.setViewportSize({ width: 900, height: 700 });
  await expect.poll(() => columns('B')).toBeLessThan(wide);
  await page.setViewportSize({ width: 1280, height: 800 });

  await page.keyboard.type('clear; echo kept-$((1+1))\n');
  await expect(screen(page)).toContainText('kept-2');
  await page.reload();
  await expect(screen(page)).toContainText('kept-2');
  await page.locator('.xterm-helper-textarea').first().focus();
  await page.keyboard.type('echo again-$((2+2))\n');
  await expect(screen(page)).toContainText('again-4');

  await stage.killDaemon();
  // One that is only just dying may still take the connection.
  await expect(() => stage.startDaemon()).toPass();
  await expect(page.getByText('The daemon does not answer.')).toBeHidden({ timeout: 20_000 });
  await expect(screen(page)).toContainText('again-4');
  await page.keyboard.type('echo back-$((3+3))\n');
  await expect(screen(page)).toContainText('back-6');

  await page.keyboard.type('exit 3\n');
  await expect(page.getByText('It ended with 3.')).toBeVisible();
});

test('colours are shown, also those that are not among the sixteen', async ({ page, stage }) => {
  const task = await ready(stage, 'colours');
  await terminal(page, task.name);
  await page.keyboard.type("printf '\\033[38;2;250;120;10mtrue\\033[0m \\033[31mred\\033[0m\\n'\n");
  const own = screen(page).locator('span', { hasText: /^true$/ });
  await expect(own).toBeVisible();
  const colour = (index: number) =>
    screen(page)
      .locator('span', { hasText: /^(true|red)$/ })
      .nth(index)
      .evaluate((span) => getComputedStyle(span).color);
  expect(await colour(0)).not.toBe(await colour(1));
});

/** Each prints something that other terminals obey or answer. */
const hostile: Record<string, string> = {
  'clipboard (OSC 52)': '\\033]52;c;ZXZpbA==\\007',
  'clipboard, asked': '\\033]52;c;?\\007',
  'title (OSC 0)': '\\033]0;evil\\007',
  'title (OSC 2)': '\\033]2;evil\\033\\\\',
  'title, reported (CSI 21 t)': '\\033]2;evil\\007\\033[21t',
  'size of the window (CSI 18 t)': '\\033[18t\\033[14t\\033[16t\\033[19t',
  'primary attributes (DA1)': '\\033[c\\033[0c',
  'secondary and tertiary attributes': '\\033[>c\\033[=c',
  'status and cursor (DSR)': '\\033[5n\\033[6n\\033[?6n\\033[?996n',
  'setting (DECRQSS)': '\\033P$qm\\033\\\\\\033P+q544e\\033\\\\',
  'mode (DECRQM)': '\\033[?2026$p\\033[4$p',
  'colours (OSC 4, 10, 11, 12)': '\\033]4;1;?\\007\\033]10;?\\007\\033]11;?\\007\\033]12;?\\007',
  'version and keyboard': '\\033[>q\\033[?u\\033[x',
  'enquiry (ENQ)': '\\005',
  'focus reports': '\\033[?1004h',
  'checksum of a rectangle': '\\033[1;1;1;1;5;5*y',
};

test('no escape sequence reaches the clipboard, the title or the input', async ({ page, stage, context }) => {
  test.setTimeout(120_000);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const task = await ready(stage, 'hostile');
  await terminal(page, task.name);
  const title = await page.title();
  await page.evaluate(() => navigator.clipboard.writeText('mine'));
  await page.locator('.xterm-helper-textarea').first().focus();
  // Raw, so that an answer would be seen as it is, whatever it ends with.
  await page.keyboard.type(
    `ask() { stty raw -echo min 0 time 5; printf "$2"; got=$(dd bs=256 count=1 2>/dev/null | od -An -c | tr -d ' \\n'); stty sane; echo "$1=[$got]"; }\n`,
  );
  for (const [index, sequence] of Object.values(hostile).entries()) {
    await page.keyboard.type(`clear; ask n${index} '${sequence}'\n`);
    await expect(screen(page), Object.keys(hostile)[index]).toContainText(`n${index}=[]`, {
      timeout: 15_000,
    });
    if (sequence.includes('1004')) {
      await page.locator('.xterm-helper-textarea').first().blur();
      await page.locator('.xterm-helper-textarea').first().focus();
      await page.keyboard.type('clear; echo x$((7*7))\n');
      await expect(screen(page)).toContainText('x49');
      await expect(screen(page)).not.toContainText('[I');
    }
    expect(await page.title(), Object.keys(hostile)[index]).toBe(title);
  }
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('mine');
  // The probe itself sees what is typed.
  await page.keyboard.type(`clear; ask typed 'go'\n`);
  await expect(screen(page)).toContainText('go');
  await page.keyboard.type('k');
  await expect(screen(page)).toContainText(/typed=\[k?\]/);
});

test('links of programs lead to the web only, and say where', async ({ page, stage, context }) => {
  const task = await ready(stage, 'links');
  await terminal(page, task.name);
  await page.keyboard.type(
    "clear; printf '\\033]8;;javascript:alert(1)\\033\\\\bad\\033]8;;\\033\\\\ \\033]8;;https://example.com/x\\033\\\\good\\033]8;;\\033\\\\\\n'\n",
  );
  await expect(screen(page)).toContainText('bad good');
  let opened = 0;
  context.on('page', () => (opened += 1));
  const row = page.locator('.xterm-rows > div', { hasText: /^bad good/ });
  const at = await row.boundingBox();
  if (!at) throw new Error('no such row');
  await page.mouse.move(at.x + 10, at.y + 6);
  await page.mouse.click(at.x + 10, at.y + 6);
  await page.mouse.move(at.x + 45, at.y + 6);
  await expect(page.getByText('https://example.com/x', { exact: true })).toBeVisible();
  expect(opened).toBe(0);
});

test('programs that draw go on working: vi, and a pager', async ({ page, stage }) => {
  const task = await ready(stage, 'draws');
  await terminal(page, task.name);
  await page.keyboard.type('clear; seq 1 500 | less\n');
  await expect(screen(page)).toContainText('20');
  await page.keyboard.type('G');
  await expect(screen(page)).toContainText('500');
  await page.keyboard.type('q');
  await page.keyboard.type('clear; echo out-$((5*5))\n');
  await expect(screen(page)).toContainText('out-25');
});

test('what is pasted cannot type', async ({ page, stage, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const task = await ready(stage, 'paste');
  await terminal(page, task.name);
  await page.evaluate(() => navigator.clipboard.writeText('echo a\u001b[201~\u0003b'));
  await page.locator('.xterm-helper-textarea').first().focus();
  await page.keyboard.press('Control+Shift+V');
  await expect(screen(page)).toContainText('echo a[201~b');
});

const app = `[apps.web]
command = "printf '\\\\033[32mlistening\\\\033[0m on %s\\\\n<img src=x onerror=alert(1)>\\\\n' $PORT; python3 -m http.server $PORT"
port = 3000
`;

test('apps are started, heard and stopped; two panes; a log is a tab', async ({ page, stage }) => {
  test.setTimeout(90_000);
  const task = await ready(stage, 'apps', { 'offshoot.toml': app });
  await page.goto(`/tasks/${task.name}/qa`);
  const web = page.getByRole('listitem', { name: 'App web' });
  await web.getByRole('button', { name: 'Start' }).click();
  await expect(web.getByText('running')).toBeVisible();
  await expect(web.getByRole('link', { name: 'Open' })).toHaveAttribute(
    'href',
    /^http:\/\/web\.apps\.localhost:\d+/,
  );
  await web.getByRole('button', { name: 'Log' }).click();
  await expect(page.getByRole('log', { name: 'Log of web' })).toContainText('listening on 3000');
  await expect(page.getByRole('log')).toContainText('<img src=x onerror=alert(1)>');
  await page.getByRole('button', { name: 'New terminal' }).click();
  await expect(page.getByRole('button', { name: 'shell', exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'More terminals' }).click();
  await page.getByRole('menuitem', { name: 'Two panes' }).click();
  await expect(page.getByRole('log')).toBeVisible();
  await expect(screen(page)).toBeVisible();
  const divider = page.getByRole('separator');
  await divider.focus();
  await page.keyboard.press('ArrowLeft');
  await expect(divider).toHaveAttribute('aria-valuenow', '45');
  if (look) await page.screenshot({ path: `${look}/qa-panes.png` });
  await web.getByRole('button', { name: 'Stop' }).click();
  await expect(web.getByText('ended')).toBeVisible();
});

for (const theme of ['light', 'dark'] as const) {
  for (const [device, width, height] of [
    ['laptop', 1280, 800],
    ['phone', 390, 844],
  ] as const) {
    test(`anybody can use it: ${theme}, ${device}`, async ({ page, stage }) => {
      await page.emulateMedia({ colorScheme: theme });
      await page.setViewportSize({ width, height });
      const task = await ready(stage, `axe-${theme}-${device}`, { 'offshoot.toml': app });
      await page.goto(`/tasks/${task.name}/qa`);
      await expect(page.getByRole('button', { name: 'Open a terminal' })).toBeVisible();
      expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
      if (look) await page.screenshot({ path: `${look}/qa-empty-${theme}-${device}.png` });
      await terminal(page, task.name);
      await page.keyboard.type(
        "ls -la --color=always / | head -12; printf '\\033[1;32mok\\033[0m \\033[41m red \\033[0m\\n'\n",
      );
      await expect(screen(page)).toContainText('ok');
      expect((await new AxeBuilder({ page }).exclude('.xterm-rows').analyze()).violations).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
      if (look) await page.screenshot({ path: `${look}/qa-${theme}-${device}.png` });
      if (device === 'phone') {
        await page.getByRole('button', { name: 'Apps and services' }).click();
        expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
        if (look) await page.screenshot({ path: `${look}/qa-beside-${theme}.png` });
        await page.getByRole('button', { name: 'Terminals' }).click();
        await page.keyboard.type('cat');
        await page.getByRole('button', { name: 'Ctrl', exact: true }).click();
        await page.keyboard.type('c');
        await expect(screen(page)).toContainText('cat^C');
        await page.getByRole('button', { name: 'Up', exact: true }).click();
        await expect(screen(page)).toContainText(/cat\^C[^]*printf/);
      }
    });
  }
}
