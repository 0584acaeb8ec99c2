import { it } from 'vitest';
import { fuzz } from './run.js';
import type { TargetName } from './targets.js';

const RUNS = Number(process.env.TANDEM_FUZZ_RUNS ?? 10_000);
/** One of them only. */
const ONLY = process.env.TANDEM_FUZZ_TARGET;

/** With 100,000 runs: a million requests, a million frames, and a hundred thousand files. A file takes a hundred times as long as a frame. */
const SHARES: readonly (readonly [TargetName, number])[] = [
  ['http', 10],
  ['frames', 10],
  ['configs', 0.8],
  ['model-directories', 0.1],
  ['onnx-files', 0.1],
];

it.each(SHARES.filter(([name]) => ONLY === undefined || ONLY === name))(
  'nothing unforeseen comes of %s from strangers',
  (name, share) => fuzz(name, Math.ceil(RUNS * share), undefined, (line) => console.log(line)),
);
