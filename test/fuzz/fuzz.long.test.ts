import { expect, it } from 'vitest';
import { fuzz } from './run.js';
import type { TargetName } from './targets.js';

// The same inputs every time: what fails here fails again. `npm run fuzz` tries others.
const SEED = 14;

it.each<[TargetName, number]>([
  ['configs', 1000],
  ['model-directories', 150],
  ['frames', 20_000],
  ['onnx-files', 300],
  ['http', 4000],
])('nothing unforeseen comes of %s from strangers', async (name, runs) => {
  await expect(fuzz(name, runs, SEED)).resolves.toBeUndefined();
});
