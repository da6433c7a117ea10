import { readFileSync } from 'node:fs';
import openapi, { astToString } from 'openapi-typescript';
import { expect, test } from 'vitest';

test('the types are those of the document: `npm run api` makes them anew', async () => {
  const document = new URL('../../../openapi/v1.json', import.meta.url);
  const made = astToString(await openapi(document, { defaultNonNullable: false }));
  const kept = readFileSync(new URL('./schema.d.ts', import.meta.url), 'utf8');
  expect(kept.endsWith(made)).toBe(true);
}, 20_000);
