/** A small tensor-parallel program to write: `y = x * w1 * w2`, `w1` split by columns and `w2` by rows. */

import { sliceShape } from '#tandem/partition/graph/slice.js';
import { createModel, createTensor, createValueInfo, DataType, type ModelProto } from '#tandem/partition/onnx/index.js';
import { readModel } from '#tandem/partition/read/index.js';
import type { ShardContent, WeightSlice } from '#tandem/partition/write/index.js';
import type { Manifest } from '#tandem/partition/write/manifest.js';
import { rawTensor, saveModel, smallModel } from './read-models.js';

export const WORLD_SIZE = 2;
export const FEATURES = { input: 32, hidden: 48, output: 24 };

/** Small numbers, so that sums are exact in whichever order. */
export const wholeNumbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, index) => ((Math.imul(index + 1, seed) >>> 7) % 5) - 2);

const asBytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer);

export const W1 = wholeNumbers(FEATURES.input * FEATURES.hidden, 2654435761);
export const W2 = wholeNumbers(FEATURES.hidden * FEATURES.output, 2246822519);
export const SCALE = wholeNumbers(FEATURES.hidden, 3266489917);

/** Saves a model that holds the weights, and says where they are. */
export const saveWeights = async (folder: string) => {
  const model = smallModel(
    [
      rawTensor('w1', [FEATURES.input, FEATURES.hidden], asBytes(W1)),
      rawTensor('w2', [FEATURES.hidden, FEATURES.output], asBytes(W2)),
    ],
    rawTensor('unused', [1], new Uint8Array(4)),
  );
  const { weights } = await readModel(saveModel(folder, model), { requireWeights: true });
  const [w1, w2] = [weights.get('w1'), weights.get('w2')];
  if (!w1 || !w2) throw new Error('The weights were not found.');
  return { w1, w2 };
};

/** The slices of one rank; `w1 again` is the same slice under another name, `scale` small and in memory. */
export const rankSlices = async (folder: string, rank: number): Promise<readonly WeightSlice[]> => {
  const { w1, w2 } = await saveWeights(folder);
  const half = FEATURES.hidden / WORLD_SIZE;
  const ranges = [[rank * half, (rank + 1) * half]] as const;
  const scale = { dtype: 'float32', shape: [FEATURES.hidden], data: asBytes(SCALE) } as const;
  return [
    { name: 'w1', source: w1, axis: 1, ranges },
    { name: 'w1 again', source: w1, axis: 1, ranges },
    { name: 'w2', source: w2, axis: 0, ranges },
    { name: 'scale', source: scale, axis: 0, ranges },
  ];
};

/** `partial = ((x * w1) * scale) * w2`, with `w1 again` in place of `w1` where asked. */
export const segmentModel = (slices: readonly WeightSlice[], first: 'w1' | 'w1 again'): ModelProto =>
  createModel({
    irVersion: 8n,
    opsetImport: [{ domain: '', version: 17n }],
    graph: {
      name: 'segment',
      node: [
        { opType: 'MatMul', input: ['x', first], output: ['hidden'] },
        { opType: 'Mul', input: ['hidden', 'scale'], output: ['scaled'] },
        { opType: 'MatMul', input: ['scaled', 'w2'], output: ['partial'] },
      ],
      initializer: slices
        .filter(({ name }) => !name.startsWith('w1') || name === first)
        .map((slice) =>
          createTensor({ name: slice.name, dims: sliceShape(slice).map(BigInt), dataType: DataType.FLOAT }),
        ),
      input: [createValueInfo('x', DataType.FLOAT, [3, FEATURES.input])],
      output: [createValueInfo('partial', DataType.FLOAT, [3, FEATURES.output])],
    },
  });

const segmentEntry = (file: string): Manifest['profiles'][number]['ranks'][number]['segments'][number] => ({
  file,
  inputs: ['x'],
  outputs: [{ name: 'partial', dtype: 'float32', shape: [3, FEATURES.output] }],
  sends: [],
  receives: [],
  release: [],
});

const profile = (): Manifest['profiles'][number] => ({
  name: 'static',
  dims: {},
  inputs: [{ name: 'x', dtype: 'float32', shape: [3, FEATURES.input] }],
  outputs: [{ name: 'partial', dtype: 'float32', shape: [3, FEATURES.output] }],
  wire_bytes_per_step: 0,
  ranks: Array.from({ length: WORLD_SIZE }, (_, rank) => ({ segments: [segmentEntry(`rank-${rank}/0.onnx`)] })),
});

/**
 * A whole shard directory's content.
 * @param folder where the source model is saved
 */
export const twoRankContent = async (folder: string): Promise<ShardContent> => ({
  manifest: {
    format_version: 1,
    tool_version: '0.0.0',
    model: { name: 'model.onnx', sha256: '0'.repeat(64) },
    world_size: WORLD_SIZE,
    wire_dtype: 'fp32',
    profiles: [profile()],
  },
  ranks: await Promise.all(
    Array.from({ length: WORLD_SIZE }, async (_, rank) => {
      const slices = await rankSlices(folder, rank);
      return {
        folder: `rank-${rank}`,
        slices,
        segments: [
          { file: `rank-${rank}/0.onnx`, model: segmentModel(slices, 'w1') },
          { file: `rank-${rank}/1.onnx`, model: segmentModel(slices, 'w1 again') },
        ],
      };
    }),
  ),
});
