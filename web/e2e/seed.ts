/** A board as people have it: one task in each lane, in two projects. */
import type { Stage } from './stage.ts';

const write = (path: string, lines: number, message: string) =>
  `@write ${path} ${Array.from({ length: lines }, (_, n) => `line ${n}`).join('\\n')}\n@commit ${message}\n@say Done.`;

let seeded = 0;

export async function seed(stage: Stage): Promise<{ shop: string; api: string }> {
  seeded += 1;
  const shop = stage.repository(`seed-${seeded}/shop`);
  const api = stage.repository(`seed-${seeded}/payments-api`);
  const finished = async (path: string, name: string, prompt: string, check?: string) => {
    const view = await stage.task(path, `${name}\n${prompt}`, {
      name,
      ...(check !== undefined && { check }),
    });
    return stage.until(view.task.id, 'complete', 'failed');
  };
  await finished(
    shop,
    'add-a-date-filter',
    write('src/orders/filter.ts', 48, 'orders: filter by date'),
    'true',
  );
  const typo = await finished(shop, 'fix-the-typo', write('README.txt', 3, 'Fix the typo'));
  await stage.api('POST', `/v1/tasks/${typo.task.id}/land`);
  await finished(
    api,
    'retry-webhooks',
    write('webhooks.py', 120, 'webhooks: try again with growing pauses'),
    'test -e missing',
  );
  await finished(shop, 'upgrade-the-bundler', '@crash');
  const asks = await stage.task(
    shop,
    'Choose\n@ask Which database should the tests use? | Postgres | SQLite',
    {
      name: 'speed-up-the-tests',
      permission: 'ask',
    },
  );
  await stage.until(asks.task.id, 'needs_attention');
  const works = await stage.task(api, 'Work\n@shell echo cargo test -p audit\n@sleep 3000', {
    name: 'paginate-the-audit-log',
  });
  await stage.until(works.task.id, 'running');
  return { shop, api };
}
