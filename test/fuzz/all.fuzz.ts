import { it } from 'vitest';
import { fuzz } from './run.js';
import type { TargetName } from './targets.js';

const RUNS = Number(process.env.TANDEM_FUZZ_RUNS ?? 10_000);
// A file takes a hundred times as long as a frame.
const SHARES: readonly (readonly [TargetName, number])[] = [
  ['frames', 10],
  ['configs', 1],
  ['model-directories', 0.1],
  ['onnx-files', 0.1],
];

it.each(SHARES)('nothing unforeseen comes of %s from strangers', (name, share) => fuzz(name, Math.ceil(RUNS * share)));
