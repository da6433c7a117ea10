/** Draws the icons that phones want as PNG from the mark: `node scripts/icons.mjs`. What it makes is committed. */
import { chromium } from '@playwright/test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

const publicDir = join(import.meta.dirname, '../public');

/** The mark on its ground; `room` is what is left around it, of 32, for systems that cut icons into shapes. */
const drawn = (room) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${-room} ${-room} ${32 + 2 * room} ${32 + 2 * room}" width="100%" height="100%" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" stroke-linejoin="round"><rect x="${-room}" y="${-room}" width="100%" height="100%" fill="#3b5bdb" stroke="none"/><path d="M10 28V4"/><path d="M10 20c8 0 12-3 12-11"/><circle cx="22" cy="6" r="3" fill="#fff"/></svg>`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox'],
});
for (const [name, size, room] of [
  ['icon-180.png', 180, 8],
  ['icon-192.png', 192, 8],
  ['icon-512.png', 512, 8],
  ['icon-maskable-512.png', 512, 14],
]) {
  const page = await browser.newPage({ viewport: { width: size, height: size } });
  await page.setContent(`<body style="margin:0">${drawn(room)}</body>`);
  const png = await page.screenshot();
  writeFileSync(join(publicDir, name), png);
  await page.close();
}
await browser.close();
