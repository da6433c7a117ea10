import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: 'e2e',
  outputDir: 'test-results',
  // Each worker has a daemon of its own; more than two of them wait for each other on a small machine.
  workers: 2,
  fullyParallel: false,
  forbidOnly: true,
  // For a machine that builds something else meanwhile.
  timeout: 120_000,
  expect: { timeout: 20_000, toHaveScreenshot: { maxDiffPixelRatio: 0.01 } },
  reporter: 'list',
  snapshotPathTemplate: '{testDir}/snapshots/{arg}{ext}',
  // What measures time is asked for by name, on a machine that has nothing else to do: `npm run speed`.
  projects: [
    { name: 'pages', testIgnore: 'speed.spec.ts' },
    { name: 'speed', testMatch: 'speed.spec.ts' },
  ],
  use: {
    viewport: { width: 1280, height: 800 },
    // What a service worker answers no test could cut off; `install.spec.ts` is about it.
    serviceWorkers: 'block',
    locale: 'en-GB',
    timezoneId: 'UTC',
    launchOptions: {
      executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
      // Chromium cannot make its own sandbox inside a container; pages here are only the project's own.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--font-render-hinting=none'],
    },
  },
});
