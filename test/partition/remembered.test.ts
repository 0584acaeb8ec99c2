import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { recall, remember } from '#tandem/common/remembered.js';
import { findLayout } from '#tandem/partition/write/optimise/known-layout.js';
import { probeLayout } from '#tandem/partition/write/optimise/processor-layout.js';
import { testDirectory } from '../support/directory.js';

const schema = z.object({ size: z.number() });

it('what was remembered is good for its key, and the last one counts', () => {
  const path = join(testDirectory(), 'a', 'fact.json');
  expect(recall(path, 'key', schema)).toBeUndefined();
  remember(path, 'key', { size: 1 });
  remember(path, 'key', { size: 2 });
  expect(recall(path, 'key', schema)).toEqual({ size: 2 });
  expect(recall(path, 'other key', schema)).toBeUndefined();
  expect(readdirSync(dirname(path))).toEqual(['fact.json']);
});

it.each(['', '{', '[]', '{"key":"key","value":{"size":"2"}}'])('a file with %j remembers nothing', (text) => {
  const path = join(testDirectory(), 'fact.json');
  writeFileSync(path, text);
  expect(recall(path, 'key', schema)).toBeUndefined();
});

it('where nothing can be written, nothing is remembered and nothing fails', () => {
  const path = join(testDirectory(), 'fact.json');
  mkdirSync(path);
  remember(path, 'key', { size: 1 });
  expect(recall(path, 'key', schema)).toBeUndefined();
});

it("the processor's layout is remembered as ONNX Runtime tells it", async () => {
  const probed = await probeLayout('cpu');
  expect(await findLayout('cpu')).toBe(probed);
});
