/** A small tensor-parallel program to write: `y = x * w1 * w2`, `w1` split by columns and `w2` by rows. */

import type { Graph, Node, Value } from '#tandem/partition/graph/graph.js';
import { sliceShape, type WeightSlice } from '#tandem/partition/graph/slice.js';
import { makeNode } from '#tandem/partition/graph/tape.js';
import { readModel } from '#tandem/partition/read/index.js';
import type { RankContent, ShardContent } from '#tandem/partition/write/index.js';
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

/** The constants of one rank; `w1 again` is the same slice under another name, `scale` small and in memory. */
const rankConstants = async (folder: string, rank: number) => {
  const { w1, w2 } = await saveWeights(folder);
  const half = FEATURES.hidden / WORLD_SIZE;
  const ranges = [[rank * half, (rank + 1) * half]] as const;
  const scale = { dtype: 'float32', shape: [FEATURES.hidden], data: asBytes(SCALE) } as const;
  const part = (name: string, slice: Omit<WeightSlice, 'name' | 'ranges'>): Value => {
    const whole = { ...slice, name, ranges };
    return { name, dtype: 'float32', shape: sliceShape(whole), constant: { kind: 'part', slice: whole } };
  };
  return {
    w1: part('w1', { source: w1, axis: 1 }),
    w1Again: part('w1 again', { source: w1, axis: 1 }),
    w2: part('w2', { source: w2, axis: 0 }),
    scale: part('scale', { source: scale, axis: 0 }),
  };
};

const float = (name: string, ...shape: readonly number[]): Value => ({ name, dtype: 'float32', shape });

/** `partial = ((x * first) * scale) * w2`. */
export const segmentGraph = (first: Value, scale: Value, w2: Value): Graph => {
  const half = FEATURES.hidden / WORLD_SIZE;
  const [x, partial] = [float('x', 3, FEATURES.input), float('partial', 3, FEATURES.output)];
  const [hidden, scaled] = [float('hidden', 3, half), float('scaled', 3, half)];
  return {
    irVersion: 8,
    opsets: [{ domain: '', version: 17 }],
    inputs: [x],
    outputs: [partial],
    nodes: [
      makeNode('MatMul', 'hidden', [x, first], hidden),
      makeNode('Mul', 'scaled', [hidden, scale], scaled),
      makeNode('MatMul', 'partial', [scaled, w2], partial),
    ],
  };
};

/** The graph with other nodes where `change` gives some. */
export const withNodes = (content: RankContent, change: (node: Node) => Node): RankContent => ({
  ...content,
  segments: content.segments.map(({ file, graph }) => ({ file, graph: { ...graph, nodes: graph.nodes.map(change) } })),
});

/** The same with another value in a constant's place. */
export const withConstant = (content: RankContent, name: string, change: (value: Value) => Value): RankContent =>
  withNodes(content, (node) => ({
    ...node,
    inputs: node.inputs.map((value) => (value?.name === name ? change(value) : value)),
  }));

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
      const { w1, w1Again, w2, scale } = await rankConstants(folder, rank);
      return {
        folder: `rank-${rank}`,
        segments: [
          { file: `rank-${rank}/0.onnx`, graph: segmentGraph(w1, scale, w2) },
          { file: `rank-${rank}/1.onnx`, graph: segmentGraph(w1Again, scale, w2) },
        ],
      };
    }),
  ),
});
