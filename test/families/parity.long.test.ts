/** Small real exports of the model families give on several ranks what they give whole; `npm run measure -- families` runs all. */
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { dimsOf, isHalf } from '../fixtures/families.js';
import { materialise } from '../fixtures/materialise.js';
import { runSplit } from '../partition/small-model.js';
import { fileDirectory } from '../support/directory.js';

const DIRECTORY = fileDirectory();

// A busy machine.
vi.setConfig({ testTimeout: 180_000 });

/** Each family, each exporter, and each kind of block once; 6 heads on 4 ranks or on unlike ones do not come out even. */
const CASES: readonly (readonly [name: string, speeds: readonly number[]])[] = [
  ['sdxl-dynamo23', [1, 1]],
  ['sd3-ts14', [1, 1, 1]],
  ['sd35-dynamo23', [1, 1, 1, 1]],
  ['flux-ts17', [2, 1]],
  ['sd35-dynamo18-fp16', [1, 1]],
  ['pixart-dynamo18', [1, 1, 1, 1]],
  ['dit-dynamo23', [1, 1]],
  ['zimage-ts17', [1, 1, 1]],
  ['zimage-dynamo23', [3, 1, 2]],
  ['vae-dynamo18', [1, 1]],
  ['qwen3-dynamo23', [1, 1, 1]],
  ['clip-dynamo18', [2, 1]],
  ['clip-ts17-fused', [1, 1]],
  ['sd3-dynamo18-qkv', [1, 1, 1]],
  ['flux-dynamo23-qkv', [2, 1, 1]],
  ['lumina2-ts17', [1, 1, 1]],
  ['lumina2-dynamo18', [1, 1, 1, 1]],
  ['sd-optimum18', [1, 1]],
  ['clip-optimum18', [1, 1, 1, 1]],
  ['flux-optimum18', [1, 1, 1]],
];

it.each(CASES)('%s at speeds %s', async (name, speeds) => {
  const path = await materialise(`families/${name}`, join(DIRECTORY, name));
  const { error } = await runSplit(path, join(DIRECTORY, `${name}-shards`), speeds, { dims: dimsOf(name) });
  expect(error).toBeLessThanOrEqual(isHalf(name) ? 1e-2 : 1e-4);
});
