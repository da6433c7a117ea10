/** Review and inbox as people see them: at both widths, light and dark; with everything that one reads on them. */
import AxeBuilder from '@axe-core/playwright';
import { expect, test, type Stage } from './stage.ts';

const filter = `//! Filters over orders.

/// Which orders are listed.
#[derive(Debug, Default)]
pub struct Filter {
    pub from: Option<u64>,
    pub until: Option<u64>,
    name: String,
}

impl Filter {
    /// Whether it lets an order through.
    pub fn passes(&self, at: u64) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    pub fn describe(&self) -> String {
        format!("{}: {:?}..{:?}", self.name, self.from, self.until)
    }
}
`;
const orders = `import { request } from './api';

/** All orders of a day. */
export async function orders(day: string): Promise<Order[]> {
  const answer = await request(\`/orders?day=\${day}\`);
  return answer.orders as Order[];
}
`;

async function reviewed(stage: Stage, name: string) {
  const shop = stage.repository(`${name}/shop`, {
    'src/orders/filter.rs': filter,
    'web/orders.ts': orders,
    'README.md': '# Shop\n\nSells things.\n',
    'package.json': '{\n  "name": "shop",\n  "scripts": { "test": "vitest" }\n}\n',
  });
  await stage.task(
    shop,
    [
      'Let orders be filtered by date, the last day included.',
      '@edit src/orders/filter.rs at < until => at <= until',
      '@commit orders: a filter includes its last day',
      "@shell sed -i 's/(day: string)/(day: string, limit = 100)/; s/?day=${day}/?day=${day}\\&limit=${limit}/' web/orders.ts",
      '@commit web: at most a hundred orders',
      "@shell mkdir -p .husky; printf 'npm test\\n' > .husky/pre-commit; head -c 5000 /dev/zero > web/logo.png; git mv README.md docs.md",
      '@commit Hooks, and the logo',
      '@say done',
    ].join('\n'),
    { name, check: 'echo "42 tests passed"', scope: ['src/**', 'web/**'] },
  );
  await stage.until(name, 'complete');
}

async function asked(stage: Stage, name: string) {
  const shop = stage.repository(`${name}/shop`);
  const ask = async (task: string, prompt: string) => {
    await stage.task(shop, prompt, { name: `${task}-${name}`, permission: 'ask' });
    await stage.until(`${task}-${name}`, 'needs_attention');
  };
  await ask(
    'tidy',
    'Make the build quick again.\n@say Nothing reads dist, and it has 2 GB: I will throw it away.\n@shell rm -rf dist && npm run build',
  );
  await ask('choose', 'Choose\n@ask Which database should the tests use? | Postgres | SQLite');
}

for (const scheme of ['light', 'dark'] as const) {
  for (const [size, width, height] of [
    ['laptop', 1280, 800],
    ['phone', 390, 844],
  ] as const) {
    test(`review and inbox: ${size}, ${scheme}`, async ({ page, stage }) => {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height });
      const name = `${size}-${scheme}`;
      await reviewed(stage, name);
      const check = async () => {
        const { violations } = await new AxeBuilder({ page }).analyze();
        expect(
          violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.html).join(' ')}`),
        ).toEqual([]);
        const { inner, outer } = await page
          .locator('#main')
          .evaluate((main) => ({ inner: main.scrollWidth, outer: main.clientWidth }));
        expect(inner).toBeLessThanOrEqual(outer);
      };
      const looks = {
        // What differs each time.
        mask: [page.locator('[data-elapsed]'), page.locator('[data-memory]')],
        maskColor: scheme === 'dark' ? '#2a2f3a' : '#e6e9ef',
      };
      await page.goto(`/tasks/${name}/review`);
      await expect(page.getByText('Merges cleanly into main')).toBeVisible();
      await expect(page.locator('.c-key').first()).toBeVisible();
      await check();
      await expect(page).toHaveScreenshot(`review-${size}-${scheme}.png`, looks);
      await asked(stage, name);
      await page.goto('/approvals');
      await expect(page.locator('[data-approval]')).toHaveCount(2);
      await expect(page.getByText('It said')).toBeVisible();
      await check();
      await expect(page).toHaveScreenshot(`inbox-${size}-${scheme}.png`, looks);
    });
  }
}
