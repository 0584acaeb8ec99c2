/** Rows that are numerically right and that no rule offers: each is known, with the reason why it is left out. */
import { expect, it } from 'vitest';
import { findMissing } from './missing.js';
import { prepare, Runner } from './run.js';
import { SAMPLES } from './samples/index.js';

interface LeftOut {
  readonly reason: string;
  readonly ops: readonly string[];
  readonly rows: readonly string[];
}

const LEFT_OUT: readonly LeftOut[] = [
  {
    reason: 'a product with its addend inside: canonicalise takes the addend out, and the product alone has these rows',
    ops: ['Gemm', 'Conv', 'ConvTranspose'],
    rows: ['R P P -> P', 'P R P -> P', 'S1 S0 P -> P', 'S0 S1 P -> P', 'S1 S1 P -> P'],
  },
  {
    reason: 'scale and bias of a norm are weights, which are never partial',
    ops: ['LayerNormalization', 'SimplifiedLayerNormalization', 'RMSNormalization'],
    rows: ['R P -> P', 'R P P -> P'],
  },
  {
    reason: 'scale and bias of a norm are weights, which are never partial',
    ops: ['InstanceNormalization', 'GroupNormalization'],
    rows: ['R P P -> P'],
  },
  {
    reason: 'splits start at weights, and no weight of a denoiser splits the sequence or the size of a head',
    ops: ['Attention', 'com.microsoft::MultiHeadAttention'],
    rows: ['S2 R R -> S2', 'S1 R R -> S1', 'R R S3 -> S3'],
  },
  {
    reason: 'values that are partial would be sent once more as a longer sequence; their projection is split by heads',
    ops: ['Attention', 'com.microsoft::MultiHeadAttention'],
    rows: ['R R P -> P'],
  },
  {
    reason: 'before opset 13 the axes behind the given one are combined as well, and rules do not know versions',
    ops: ['Softmax', 'LogSoftmax', 'LpNormalization'],
    rows: ['S2 -> S2'],
  },
  {
    reason: 'space is split nowhere: a window crosses the seam unless its size and step happen to fit',
    ops: ['Conv', 'ConvTranspose', 'AveragePool', 'MaxPool', 'LpPool', 'Resize', 'Upsample'],
    rows: ['S3 R -> S3', 'S2 R -> S2', 'S3 -> S3', 'S2 R R -> S2'],
  },
  {
    reason: 'right for a padding of zeros only',
    ops: ['Pad'],
    rows: ['P R -> P', 'P R P -> P', 'P R R R -> P'],
  },
  {
    reason: 'sizes follow from a ratio of all axes, which are left whole',
    ops: ['Resize'],
    rows: ['S0 R R R -> S0', 'S1 R R R -> S1'],
  },
  {
    reason: 'batch axes that are transposed are left whole',
    ops: ['com.microsoft::FusedMatMul'],
    rows: ['R S2 -> S2', 'S0 R -> S1', 'S1 S0 -> S0', 'S2 S1 -> P'],
  },
  {
    reason: 'steps other than 1 keep to their place only where the seam is a multiple of the step',
    ops: ['Slice'],
    rows: ['S1 R R R R -> S1'],
  },
  {
    reason: 'Slice had its bounds as attributes before opset 10, which no exporter writes any more',
    ops: ['Slice'],
    rows: ['S0 -> S0'],
  },
  {
    reason: 'reduces nothing, and ONNX Runtime folds it away',
    ops: ['ReduceMax', 'ReduceMin', 'ReduceProd'],
    rows: ['P R -> P'],
  },
  {
    reason: 'without bounds Clip does nothing, and ONNX Runtime folds it away',
    ops: ['Clip'],
    rows: ['P -> P'],
  },
  {
    reason: 'only the type of the second tensor matters, not how it lies; one row of those is enough',
    ops: ['CastLike'],
    rows: [0, 1, 2].flatMap((axis) =>
      ['R', 'S0', 'S1', 'S2'].filter((other) => other !== `S${axis}`).map((other) => `S${axis} ${other} -> S${axis}`),
    ),
  },
];

const KNOWN = LEFT_OUT.flatMap(({ ops, rows }) => ops.flatMap((op) => rows.map((row) => `${op}: ${row}`)));

it('offers every row that is right, but for those that are left out for a reason', async () => {
  const runner = new Runner();
  const missing = new Set<string>();
  for (const sample of SAMPLES) {
    for (const row of await findMissing(runner, await prepare(runner, sample))) missing.add(`${sample.op}: ${row}`);
  }
  await runner.close();
  expect([...missing].filter((row) => !KNOWN.includes(row))).toEqual([]);
});
