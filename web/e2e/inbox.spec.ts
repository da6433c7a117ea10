/** What waits for a person: answered by pointer, by key, by thumb, and by somebody else meanwhile. */
import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import type { Schemas, TaskView } from '../src/api';
import { expect, test, type Stage } from './stage.ts';

/** A task whose agent asks before each of these commands. */
async function asking(stage: Stage, name: string, ...commands: string[]): Promise<TaskView> {
  const path = stage.repository(`inbox-${name}-${Math.random().toString(36).slice(2)}`);
  const steps = commands.map((command) => `@shell ${command}`).join('\n');
  await stage.task(path, `Tidy up, please.\n${steps}\n@say done`, { name, permission: 'ask' });
  return stage.until(name, 'needs_attention');
}

const card = (page: Page, name: string) => page.locator(`[data-approval="${name}"]`);
const over = (page: Page, name: string) => page.locator(`[data-over="${name}"]`);

async function recorded(stage: Stage, name: string): Promise<Schemas['ApprovalRecord']> {
  const list = await stage.api<Schemas['ApprovalList']>('GET', '/v1/approvals?state=all');
  const view = list.approvals.find((asked) => asked.name === name);
  if (!view) throw new Error(`${name} was never asked`);
  return view.approval;
}

test('nothing waits: the page says how to be asked', async ({ page }) => {
  await page.goto('/approvals');
  await expect(page.getByRole('heading', { name: 'Nothing waits for you' })).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
});

test('allowed with a click; the badge is everywhere and goes', async ({ page, stage }) => {
  await asking(stage, 'click', 'touch a.txt');
  await page.goto('/approvals');
  await expect(card(page, 'click/1')).toContainText('touch a.txt');
  await expect(card(page, 'click/1')).toContainText('Tidy up, please.');
  await expect(page.getByRole('link', { name: 'Approvals 1 waiting' })).toBeVisible();
  await expect(page).toHaveTitle('(1) Offshoot');
  await expect(page.locator('link[rel=icon]')).toHaveAttribute('href', '/icon-waits.svg');
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await page.getByRole('button', { name: 'Allow once' }).click();
  await expect(over(page, 'click/1')).toContainText('allowed by you');
  await stage.until('click', 'complete');
  await expect(page).toHaveTitle('Offshoot');
  await expect(page.locator('link[rel=icon]')).toHaveAttribute('href', '/icon.svg');
  expect((await recorded(stage, 'click/1')).state).toBe('allowed');
});

test('by keyboard: chosen, put off, denied with a reason that the agent is told', async ({ page, stage }) => {
  await asking(stage, 'first', 'rm -rf dist');
  await asking(stage, 'second', 'rm -rf cache');
  await page.goto('/approvals');
  await expect(card(page, 'first/1')).toHaveAttribute('aria-current', 'true');
  await page.keyboard.press('j');
  await expect(card(page, 'second/1')).toHaveAttribute('aria-current', 'true');
  await page.keyboard.press('k');
  await page.keyboard.press('n');
  await expect(page.getByText('Not now — these go on waiting')).toBeVisible();
  await expect(page.locator('[data-approval]').first()).toHaveAttribute('data-approval', 'second/1');
  await page.reload();
  await expect(page.locator('[data-approval]').first()).toHaveAttribute('data-approval', 'second/1');
  await page.keyboard.press('d');
  const dialog = page.getByRole('dialog', { name: 'Deny second/1' });
  await dialog.getByLabel('Why').fill('cache is expensive; leave it');
  await page.keyboard.press('Control+Enter');
  await expect(over(page, 'second/1')).toContainText('denied by you');
  const denied = await recorded(stage, 'second/1');
  expect([denied.state, denied.answer?.text]).toEqual(['denied', 'cache is expensive; leave it']);
  // Its agent was told, and asks about what it makes of that.
  await expect(card(page, 'second/2')).toContainText('Permission was denied for: rm -rf cache');
  // The other one went on waiting.
  await page.keyboard.press('j');
  await expect(card(page, 'first/1')).toHaveAttribute('aria-current', 'true');
  await page.keyboard.press('a');
  await stage.until('first', 'complete');
  await page.getByRole('link', { name: 'History' }).click();
  await expect(page.getByText('cache is expensive; leave it')).toBeVisible();
  await expect(page.getByText('denied by a person')).toBeVisible();
});

test('as a rule, which then answers, says so, and is revoked', async ({ page, stage }) => {
  await asking(stage, 'ruled', 'touch a.txt', 'touch b.txt', 'rm b.txt');
  await page.goto('/approvals');
  await expect(card(page, 'ruled/1')).toBeVisible();
  await page.keyboard.press('r');
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Commands that begin with…').click();
  await dialog.getByLabel('First words').fill('rm');
  await expect(dialog.getByText('this command does not begin with that')).toBeVisible();
  await expect(dialog.getByRole('button', { name: 'Allow and make the rule' })).toBeDisabled();
  await dialog.getByLabel('First words').fill('touch');
  await expect(dialog.getByText('allowed without being asked: commands that begin with')).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await dialog.getByRole('button', { name: 'Allow and make the rule' }).click();
  // The second was answered by it; the third is another command.
  await expect(card(page, 'ruled/3')).toContainText('rm b.txt');
  await page.getByRole('link', { name: 'Rules' }).click();
  await expect(page.getByText('answered 1 request')).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  await page.getByRole('button', { name: 'Revoke…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await expect(page.getByRole('heading', { name: 'No standing rules' })).toBeVisible();
  await page.getByRole('link', { name: 'History' }).click();
  await expect(page.getByText(/allowed by the rule/)).toBeVisible();
});

test('answered elsewhere meanwhile: it is said, and is no error', async ({ page, stage }) => {
  await asking(stage, 'elsewhere', 'touch a.txt');
  await page.goto('/approvals');
  await expect(card(page, 'elsewhere/1')).toBeVisible();
  await stage.offshoot('deny', 'elsewhere/1', '--reason', 'not today');
  await expect(over(page, 'elsewhere/1')).toContainText('elsewhere: denied by a person');
  // And when the list here is older than the answer.
  await asking(stage, 'raced', 'touch a.txt');
  await expect(card(page, 'raced/1')).toBeVisible();
  await page.route('**/v1/approvals/*', async (route) => {
    if (route.request().method() === 'POST') await stage.offshoot('deny', 'raced/1');
    await route.continue();
  });
  await card(page, 'raced/1').getByRole('button', { name: 'Allow once' }).click();
  await expect(over(page, 'raced/1')).toContainText('elsewhere: denied by a person');
  await expect(page.getByRole('alert')).toHaveCount(0);
});

test('what an agent asks is text, whatever it is made of', async ({ page, stage }) => {
  const nasty = `echo '<img src=x onerror=alert(1)>' '\u202egnp.exe' '${'x'.repeat(300)}'`;
  await asking(stage, 'nasty', nasty);
  let spoke = false;
  page.on('dialog', () => (spoke = true));
  await page.goto('/approvals');
  await expect(card(page, 'nasty/1')).toContainText('<img src=x onerror=alert(1)>');
  await expect(card(page, 'nasty/1')).toContainText('\ufffdgnp.exe');
  expect(await page.locator('main img').count()).toBe(0);
  await page.keyboard.press('d');
  await page.getByLabel('Why').fill('<script>alert(2)</script>');
  await page.keyboard.press('Control+Enter');
  await expect(over(page, 'nasty/1')).toBeVisible();
  await page.getByRole('link', { name: 'History' }).click();
  await expect(page.getByText('<script>alert(2)</script>')).toBeVisible();
  expect(spoke).toBe(false);
});

test.describe('with a thumb', () => {
  test.use({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });

  /** A finger's way over a card. */
  async function swipe(page: Page, name: string, dx: number) {
    const box = await card(page, name).boundingBox();
    if (!box) throw new Error(`${name} is not shown`);
    const client = await page.context().newCDPSession(page);
    const y = box.y + 20;
    const x = box.x + box.width / 2 - dx / 2;
    await client.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [{ x, y }] });
    for (let step = 1; step <= 8; step += 1) {
      await client.send('Input.dispatchTouchEvent', {
        type: 'touchMove',
        touchPoints: [{ x: x + (dx * step) / 8, y }],
      });
    }
    await client.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  }

  test('a swipe to the right asks once more for a command', async ({ page, stage }) => {
    await asking(stage, 'swiped', 'touch a.txt');
    await page.goto('/approvals');
    await expect(card(page, 'swiped/1')).toBeVisible();
    await swipe(page, 'swiped/1', 60);
    await expect(page.getByRole('dialog')).toHaveCount(0);
    await swipe(page, 'swiped/1', 200);
    const sheet = page.getByRole('dialog');
    await expect(sheet).toContainText('touch a.txt');
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
    await sheet.getByRole('button', { name: 'Allow once' }).click();
    await stage.until('swiped', 'complete');
  });

  test('a swipe to the left asks for the reason of the no', async ({ page, stage }) => {
    await asking(stage, 'left', 'rm a.txt');
    await page.goto('/approvals');
    await swipe(page, 'left/1', -220);
    const sheet = page.getByRole('dialog', { name: 'Deny left/1' });
    await sheet.getByRole('button', { name: 'Deny' }).click();
    await expect(over(page, 'left/1')).toContainText('denied by you');
    await stage.until('left', 'complete');
  });
});
