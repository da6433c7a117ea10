/** What the page costs before it shows anything. */
import { expect, test } from '@playwright/test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const dist = join(import.meta.dirname, '../dist');
const assets = join(dist, 'assets');
const KB = 1000;

const size = (name: string) => gzipSync(readFileSync(join(assets, name))).length;

/** A script with all that it imports at once; what it imports later is not meant. */
function reach(name: string, seen = new Set<string>()): Set<string> {
  if (seen.has(name)) return seen;
  seen.add(name);
  for (const [, next] of readFileSync(join(assets, name), 'utf8').matchAll(
    /(?:from|import)\s*["']\.\/([^"']+\.js)["']/g,
  )) {
    if (next !== undefined) reach(next, seen);
  }
  return seen;
}

test('the first load is at most 250 KB of compressed JavaScript, board included', () => {
  const html = readFileSync(join(dist, 'index.html'), 'utf8');
  const first = [...html.matchAll(/assets\/([^"]+\.js)/g)].map(([, name]) => name ?? '');
  const board = readdirSync(assets).find((name) => name.startsWith('Board-')) ?? '';
  const loaded = new Set([...first, board].flatMap((name) => [...reach(name)]));
  const total = [...loaded].reduce((sum, name) => sum + size(name), 0);
  console.log(`first load: ${(total / KB).toFixed(0)} KB of JavaScript in ${loaded.size} files`);
  expect(total).toBeLessThan(250 * KB);
  const styles = readdirSync(assets).filter((name) => name.endsWith('.css') && html.includes(name));
  expect(styles.reduce((sum, name) => sum + size(name), 0)).toBeLessThan(40 * KB);
});

test('nothing comes from elsewhere, and nothing is inline', () => {
  const html = readFileSync(join(dist, 'index.html'), 'utf8');
  expect(html).not.toMatch(/https?:|<style|<script(?![^>]*\ssrc=)/);
  for (const name of readdirSync(assets).filter((name) => name.endsWith('.css'))) {
    expect(readFileSync(join(assets, name), 'utf8')).not.toMatch(/@import|url\(\s*["']?https?:/);
  }
});
