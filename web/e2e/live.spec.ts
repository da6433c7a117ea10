/** What is shown stays true: through a cut network, a restarted daemon and one that was killed, without a reload. */
import type { Page } from '@playwright/test';
import type { Schemas } from '../src/api';
import { expect, test, type Stage } from './stage.ts';

// What a browser says about a broken connection is no complaint of the page.
test.use({ quiet: false });

const lane = (page: Page, title: string) => page.locator(`section[aria-label="${title}"] [data-row]`);

interface Watched {
  seqs: number[];
  afters: number[];
}

/** Writes down every entry that comes over the stream, and marks the page, so that a reload would show. */
async function watch(page: Page) {
  await page.addInitScript(() => {
    const watched: Watched = { seqs: [], afters: [] };
    Object.assign(window, { watched });
    const real = window.fetch.bind(window);
    window.fetch = async (input, init) => {
      const answer = await real(input, init);
      const url = typeof input === 'string' ? input : '';
      if (!url.startsWith('/v1/events') || !answer.body) return answer;
      watched.afters.push(Number(new URL(url, location.href).searchParams.get('after')));
      const [mine, its] = answer.body.tee();
      void (async () => {
        const reader = mine.pipeThrough(new TextDecoderStream()).getReader();
        let rest = '';
        try {
          for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            const blocks = (rest + value).split('\n\n');
            rest = blocks.pop() ?? '';
            for (const block of blocks) {
              const id = /^id: ?(\d+)$/m.exec(block)?.[1];
              if (id !== undefined) watched.seqs.push(Number(id));
            }
          }
        } catch {
          // Cut.
        }
      })();
      return new Response(its, answer);
    };
  });
}

/** All entries since the first connection came, each once. */
async function complete(page: Page, stage: Stage) {
  const { watched } = await page.evaluate<{ watched: Watched }>('({ watched })');
  const first = watched.afters[0] ?? 0;
  const { entries } = await stage.api<Schemas['EventList']>('GET', `/v1/events?after=${first}&limit=5000`);
  const last = watched.seqs.at(-1) ?? 0;
  expect(watched.seqs).toEqual(entries.map((entry) => entry.seq).filter((seq) => seq <= last));
  return watched;
}

test('the network is cut for a while: nothing missing, nothing twice, and it is said', async ({
  page,
  stage,
}) => {
  const repository = stage.repository('cut');
  const one = await stage.task(repository, 'one\n@sleep 3000', { name: 'one' });
  await watch(page);
  await page.goto('/');
  await expect(lane(page, 'Running')).toHaveCount(1);
  stage.cut();
  await expect(page.getByRole('status').filter({ hasText: 'Reconnecting…' })).toBeVisible();
  await stage.api('POST', `/v1/tasks/${one.task.id}/stop`);
  const two = await stage.task(repository, 'two\n@tokens 50\n@say two', { name: 'two' });
  await stage.until(two.task.id, 'complete');
  // What was there is still shown.
  await expect(lane(page, 'Running')).toHaveCount(1);
  stage.mend();
  await expect(lane(page, 'Complete')).toHaveCount(1);
  await expect(lane(page, 'Failed')).toHaveCount(1);
  await expect(lane(page, 'Running')).toHaveCount(0);
  await expect(page.getByText('Reconnecting…')).toHaveCount(0);
  const three = await stage.task(repository, 'three\n@say three', { name: 'three' });
  await stage.until(three.task.id, 'complete');
  await expect(lane(page, 'Complete')).toHaveCount(2);
  expect((await complete(page, stage)).afters.length).toBeGreaterThan(1);
});

test('the daemon is killed in the middle of a watched run, and started again', async ({ page, stage }) => {
  const repository = stage.repository('killed');
  const task = await stage.task(repository, 'work\n@tokens 40 50\n@write a.txt a\n@commit a\n@say done', {
    name: 'work',
  });
  await stage.until(task.task.id, 'running');
  await watch(page);
  await page.goto('/');
  await expect(lane(page, 'Running')).toHaveCount(1);
  await stage.killDaemon();
  await expect(page.getByText('Reconnecting…')).toBeVisible();
  await stage.startDaemon();
  await expect(lane(page, 'Complete')).toContainText('1 file +1');
  await expect(page.getByText('Reconnecting…')).toHaveCount(0);
  await complete(page, stage);

  // Stopped and started by a person: the same.
  await stage.stopDaemon();
  await expect(page.getByText('Reconnecting…')).toBeVisible();
  await stage.startDaemon();
  await expect(page.getByText('Reconnecting…')).toHaveCount(0);
  await stage.api('POST', `/v1/tasks/${task.task.id}/discard`, { force: true });
  await expect(page.getByRole('heading', { name: 'No agent has anything to do' })).toBeVisible();
  await complete(page, stage);
});

test('a page that is opened while the daemon is away says so, and comes up with it', async ({
  page,
  stage,
}) => {
  await stage.stopDaemon();
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'The daemon does not answer' })).toBeVisible();
  await expect(page.getByText('offshoot daemon start')).toBeVisible();
  await stage.startDaemon();
  await expect(page.getByRole('heading', { name: 'No agent has anything to do' })).toBeVisible();
});
