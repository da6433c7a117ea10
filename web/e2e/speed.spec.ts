/** The page with two hundred tasks, and with as many events as agents make when all of them are busy. */
import { expect, test } from './stage.ts';

const TASKS = 200;
/** Runs at a time; each says a word every 15 ms: together 20,000 events a minute. */
const BUSY = 5;

test.use({ config: `[machine]\nmax-runs = ${BUSY}\n` });

test('two hundred tasks: the first board at once, and no long frame in a flood of events', async ({
  page,
  stage,
}) => {
  test.setTimeout(180_000);
  const repository = stage.repository('busy');
  for (let n = 0; n < BUSY; n += 1)
    await stage.task(repository, 'Sleep\n@sleep 3000', { name: `sleeps-${n}` });
  for (let n = BUSY; n < TASKS; n += 1) {
    await stage.task(repository, `Be busy, number ${n}\n@tokens 100000 15`, { name: `busy-${n}` });
  }
  await page.addInitScript(() => {
    const frames: number[] = [];
    Object.assign(window, { frames });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) frames.push(entry.duration);
    }).observe({ type: 'long-animation-frame' });
  });

  // The best of three: what else this machine does is not meant.
  const boards: number[] = [];
  for (let n = 0; n < 3; n += 1) {
    await page.goto('/');
    await expect(page.getByText(`${TASKS}\u00a0tasks`)).toBeVisible();
    boards.push(
      await page.evaluate(() => {
        const [page] = performance.getEntriesByType('navigation') as PerformanceNavigationTiming[];
        const [board] = performance.getEntriesByName('board');
        return (board?.startTime ?? Infinity) - (page?.responseEnd ?? 0);
      }),
    );
  }

  for (let n = 0; n < BUSY; n += 1) await stage.api('POST', `/v1/tasks/sleeps-${n}/stop`);
  for (let n = BUSY; n < 2 * BUSY; n += 1) await stage.until(`busy-${n}`, 'running');
  await page.evaluate(() => ((window as unknown as { frames: number[] }).frames.length = 0));
  const before = await stage.api<{ seq: number }>('GET', '/v1/tasks');
  const began = Date.now();
  // Somebody reads and points meanwhile.
  for (let n = 0; n < 40; n += 1) {
    await page.mouse.move(300 + (n % 10) * 20, 200 + (n % 20) * 20);
    await page.mouse.wheel(0, n % 2 === 0 ? 400 : -400);
    await page.evaluate(() => new Promise((done) => setTimeout(done, 200)));
  }
  const seconds = (Date.now() - began) / 1000;
  const after = await stage.api<{ seq: number }>('GET', '/v1/tasks');
  const rate = Math.round(((after.seq - before.seq) / seconds) * 60);
  const frames = await page.evaluate(() => (window as unknown as { frames: number[] }).frames);
  console.log(
    `first board ${boards.map(Math.round).join(', ')} ms after the document; ` +
      `${rate} events a minute for ${Math.round(seconds)} s; frames over 50 ms: ${frames.map(Math.round).join(', ') || 'none'}`,
  );
  expect(Math.min(...boards)).toBeLessThan(300);
  expect(rate).toBeGreaterThan(5_000);
  // Other processes take the processor now and then; a page that cannot keep up has such frames all the time.
  expect(frames.length).toBeLessThanOrEqual(3);
});
