/** Sizes that no shape inference tells: those of constants are computed, and what depends on data runs whole on every rank. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DTYPES } from '#tandem/common/tensor.js';
import { fold } from '#tandem/partition/clean/fold.js';
import { plan } from '#tandem/partition/index.js';
import { intAttribute } from '#tandem/partition/onnx/index.js';
import { readModel } from '#tandem/partition/read/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { node, runPartition, runSmallModel, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory } from './stages.js';

const TO_FLOAT = intAttribute('to', DTYPES.float32.code);
const TO_BOOL = intAttribute('to', DTYPES.bool.code);

const SCALAR = intAttribute('keepdims', 0);

/** Two products and what is exchanged after them; a tensor is read before that and after it. */
const around = (tensor: string, nodes: SmallModel['nodes'], ints: SmallModel['ints'] = {}): SmallModel => ({
  inputs: { x: [4, 16] },
  weights: { w1: [16, 36], w2: [36, 16] },
  ints: { one: [1], ...ints },
  nodes: [
    ...nodes,
    node('ReduceMean', [tensor], 'mean', SCALAR),
    node('Reshape', ['mean', 'one'], 'm'),
    node('Add', ['x', 'm'], 'a'),
    node('MatMul', ['a', 'w1'], 'h'),
    node('Relu', ['h'], 'r'),
    node('MatMul', ['r', 'w2'], 'p'),
    node('Relu', ['p'], 'q'),
    node('ReduceMax', [tensor], 'most', SCALAR),
    node('Reshape', ['most', 'one'], 'n'),
    node('Add', ['q', 'n'], 'y'),
  ],
  outputs: ['y'],
});

/** The indices of what is above 0 in the input: two axes, and as long as the data has it. */
const NON_ZERO = around('indices', [
  node('Relu', ['x'], 'positive'),
  node('NonZero', ['positive'], 'where'),
  node('Cast', ['where'], 'indices', TO_FLOAT),
]);

/** A shape that data chooses from a list: not even the number of axes is known. */
const RANKLESS = around(
  'same',
  [
    node('Slice', ['x', 'zero', 'one', 'zero'], 'row'),
    node('Slice', ['row', 'zero', 'two', 'one'], 'pair'),
    node('Reshape', ['pair', 'two'], 'flat'),
    node('Cast', ['flat'], 'chosen', TO_BOOL),
    node('Compress', ['sizes', 'chosen'], 'shape'),
    node('Reshape', ['x', 'shape'], 'same'),
  ],
  { zero: [0], two: [2], sizes: [4, 16] },
);

const openOutputs = (model: SmallModel) =>
  inDirectory(async (directory) => {
    const path = writeSmallModel(directory, model);
    const out = join(directory, 'shards');
    const devices = [2, 1].map((speed) => ({ provider: 'cpu', deviceId: 0, speed }) as const);
    const { error } = await runPartition({ model: { path }, devices, dims: {}, wire: 'fp32' }, out);
    const { profiles } = await readManifest(out);
    const outputs = profiles.flatMap(({ ranks }) =>
      ranks.flatMap(({ segments }) => segments.flatMap((segment) => segment.outputs)),
    );
    return { error, open: outputs.filter(({ shape }) => shape === null || shape.includes(null)) };
  });

describe('a tensor whose size depends on data and that crosses an exchange', () => {
  it('stays with its rank, with the size open in the manifest', async () => {
    const { error, open } = await openOutputs(NON_ZERO);
    expect(error).toBeLessThan(1e-5);
    expect(open.map(({ name, shape }) => [name, shape])).toEqual([
      ['indices', [2, null]],
      ['indices', [2, null]],
    ]);
  });

  it('may have an unknown number of axes', async () => {
    const { error, open } = await openOutputs(RANKLESS);
    expect(error).toBeLessThan(1e-5);
    expect(open.map(({ name, shape }) => [name, shape])).toEqual([
      ['same', null],
      ['same', null],
    ]);
  });
});

it('a plan tells which nodes run whole because their sizes depend on data', async () => {
  await inDirectory(async (directory) => {
    const devices = [1, 1].map(() => ({ provider: 'cpu', deviceId: 0 }) as const);
    const model = { path: writeSmallModel(directory, NON_ZERO) };
    const { replicated } = await plan({ model, devices, dims: {}, wire: 'fp32' });
    expect(replicated.filter(({ reason }) => reason === 'its sizes depend on data').map(({ op }) => op)).toContain(
      'Cast',
    );
  });
});

it('a size that depends on constants alone is computed', async () => {
  const model = around(
    'rows',
    [
      node('Cast', ['flags'], 'chosen', TO_BOOL),
      node('NonZero', ['chosen'], 'where'),
      node('Squeeze', ['where', 'zero'], 'indices'),
      node('Gather', ['x', 'indices'], 'rows'),
    ],
    { flags: [1, 0, 1, 1], zero: [0] },
  );
  await inDirectory(async (directory) => {
    const graph = await fold(await readModel(writeSmallModel(directory, model), { requireWeights: false }), {});
    expect(graph.nodes.map(({ op }) => op)).not.toContain('NonZero');
    const rows = graph.nodes.find(({ op }) => op === 'Gather')?.outputs[0];
    expect(rows?.shape).toEqual([3, 16]);
  });
  expect((await runSmallModel(model, [1, 1])).error).toBeLessThan(1e-5);
});
