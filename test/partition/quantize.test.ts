/** Int8 products compute what the float32 ones compute, to their rounding, from a fraction of the bytes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, test } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { openSession } from '#tandem/common/onnxruntime.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { type Manifest, type PartitionOptions, partition, plan, type SplitRequest } from '#tandem/partition/index.js';
import { DataType, decodeModel, intAttribute, intsAttribute, type TensorProto } from '#tandem/partition/onnx/index.js';
import { sumsAreExact } from '#tandem/partition/write/optimise/integer-sums.js';
import { openOptimised } from '#tandem/partition/write/optimise/open-optimised.js';
import { saveOptimised } from '#tandem/partition/write/optimise/save.js';
import { parseManifest } from '#tandem/partition/write/read-manifest.js';
import { errorOf, flipByte } from '../cluster/helpers.js';
import { cpus, launch, shard } from './optimise-models.js';
import { runShards } from './run-shards.js';
import { node, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory } from './stages.js';

/** With unlike sizes of all axes, so that no two can be mistaken for each other. */
const IMAGE = { x: [2, 72, 10, 13] };
const same = intsAttribute('pads', [1, 1, 1, 1]);
const convolution = (kernel: readonly number[], ...attributes: ReturnType<typeof intsAttribute>[]): SmallModel => ({
  inputs: IMAGE,
  weights: { w: [40, 72, ...kernel], b: [40] },
  nodes: [node('Conv', ['x', 'w', 'b'], 'y', ...attributes)],
  outputs: ['y'],
});

const CASES: Readonly<Record<string, SmallModel>> = {
  'a linear layer': {
    inputs: { x: [2, 5, 96] },
    weights: { w: [96, 40], b: [40] },
    nodes: [node('MatMul', ['x', 'w'], 'h'), node('Add', ['b', 'h'], 'y')],
    outputs: ['y'],
  },
  'a linear layer whose bare product is read too': {
    inputs: { x: [5, 96] },
    weights: { w: [96, 40], b: [40] },
    nodes: [node('MatMul', ['x', 'w'], 'h'), node('Add', ['h', 'b'], 's'), node('Mul', ['s', 'h'], 'y')],
    outputs: ['y'],
  },
  'a Gemm with a transposed weight, in opset 18': {
    inputs: { x: [5, 96] },
    weights: { w: [40, 96], b: [40] },
    nodes: [node('Gemm', ['x', 'w', 'b'], 'y', intAttribute('transB', 1))],
    outputs: ['y'],
    opset: 18,
  },
  'a weight that a node transposes': {
    inputs: { x: [5, 96] },
    weights: { w: [40, 96] },
    nodes: [node('Transpose', ['w'], 'wt', intsAttribute('perm', [1, 0])), node('MatMul', ['x', 'wt'], 'y')],
    outputs: ['y'],
  },
  'layers that share their input': {
    inputs: { x: [5, 96] },
    weights: { q: [96, 40], k: [96, 40] },
    nodes: [node('MatMul', ['x', 'q'], 'a'), node('MatMul', ['x', 'k'], 'b'), node('Mul', ['a', 'b'], 'y')],
    outputs: ['y'],
  },
  'a 3x3 convolution': convolution([3, 3], same),
  'a 1x1 convolution': convolution([1, 1]),
  'a 1x1 convolution of every other pixel': convolution([1, 1], intsAttribute('strides', [2, 2])),
  'a 2x3 convolution with strides, dilations and uneven padding': convolution(
    [2, 3],
    intsAttribute('strides', [2, 1]),
    intsAttribute('dilations', [1, 2]),
    intsAttribute('pads', [0, 3, 1, 2]),
  ),
  'a convolution over one axis': {
    inputs: { x: [2, 72, 11] },
    weights: { w: [40, 72, 3] },
    nodes: [node('Conv', ['x', 'w'], 'y', intsAttribute('pads', [2, 0]))],
    outputs: ['y'],
  },
};

const initializers = (directory: string, manifest: Manifest): readonly TensorProto[] =>
  manifest.files
    .filter(({ path }) => path.endsWith('.onnx'))
    .flatMap(({ path }) => decodeModel(readFileSync(join(directory, path))).graph?.initializer ?? []);

const typesOfWeights = (directory: string, manifest: Manifest): ReadonlySet<number> =>
  new Set(
    initializers(directory, manifest)
      .filter(({ dims }) => dims.reduce((a, b) => a * b, 1n) >= 1000n)
      .map(({ dataType }) => dataType),
  );

const runWhole = async (path: string, manifest: Manifest) => {
  const inputs = randomInputs(manifest.profiles[0]?.inputs ?? [], 7);
  const session = await openSession(path, { provider: 'cpu', optimization: 'all' });
  const outputs = await session.run(inputs);
  await session.dispose();
  return { inputs, outputs };
};

it.each(Object.keys(CASES).flatMap((name) => [[name, 1] as const, [name, 2] as const]))(
  '%s gives with int8 weights what it gives without, to 40 dB, on %i ranks',
  (name, ranks) =>
    inDirectory(async (directory) => {
      const path = writeSmallModel(directory, CASES[name] ?? { inputs: {}, nodes: [], outputs: [] });
      const out = join(directory, 'shards');
      const manifest = await shard(path, out, ranks, { quantize: 'int8' });
      const { inputs, outputs } = await runWhole(path, manifest);
      const found = await runShards(out, manifest, inputs);
      for (const rank of found) {
        const { psnr_db } = compareOutputs(rank, outputs);
        expect(psnr_db).toBeGreaterThan(40);
        expect(psnr_db, 'something is rounded').toBeLessThan(70);
        expect(rank).toEqual(found[0]);
      }
      expect([...typesOfWeights(out, manifest)]).toEqual([DataType.INT8]);
    }),
);

const LAYER: SmallModel = {
  inputs: { x: [5, 256] },
  weights: { w: [256, 512], b: [512] },
  nodes: [node('Gemm', ['x', 'w', 'b'], 'h'), node('Relu', ['h'], 'y')],
  outputs: ['y'],
};

const quantized = (path: string, out: string, options: Partial<SplitRequest & PartitionOptions> = {}) =>
  shard(path, out, 2, { quantize: 'int8', ...options });

test('the manifest says that the weights are int8, and their size; a plan knows it beforehand', () =>
  inDirectory(async (directory) => {
    const path = writeSmallModel(directory, LAYER);
    const manifest = await quantized(path, join(directory, 'shards'));
    expect(manifest.quantize).toBe('int8');
    const expected = 256 * 256 + 4 * 256 + 4 * 256;
    expect(manifest.ranks.map(({ weight_bytes }) => weight_bytes)).toEqual([expected, expected]);
    const request = { model: { path }, devices: cpus(2), dims: {}, wire: 'fp32', quantize: 'int8' } as const;
    expect((await plan(request)).ranks.map(({ weight_bytes }) => weight_bytes)).toEqual([expected, expected]);
    expect((await shard(path, join(directory, 'exact'), 2)).quantize).toBeUndefined();
  }));

test('a manifest that is int8 without prepared ranks, or something else altogether, is refused', () =>
  inDirectory(async (directory) => {
    const out = join(directory, 'shards');
    const manifest = await quantized(writeSmallModel(directory, LAYER), out);
    const ranks = manifest.ranks.map(({ prepared: _, ...rank }) => rank);
    const read = (change: object) => () => parseManifest(out, JSON.stringify({ ...manifest, ...change }));
    expect(read({})()).toEqual(manifest);
    expect(read({ ranks })).toThrow(/rank 0 is not prepared, but "quantize" is "int8"/);
    expect(read({ quantize: 'int4' })).toThrow(/quantize: .*"int8"/);
  }));

test('a byte of int8 weights that has changed is noticed when they are loaded', () =>
  inDirectory(async (directory) => {
    const out = join(directory, 'shards');
    const manifest = await quantized(writeSmallModel(directory, LAYER), out);
    await flipByte(join(out, 'rank-1', 'weights.bin'));
    const error = await errorOf(launch(out, manifest));
    expect(JSON.stringify([error.message, error.problems])).toMatch(/rank-1\/weights.bin.* has changed/);
  }));

test('int8 is refused on other providers, without preparation, and where there is nothing to make int8', () =>
  inDirectory(async (directory) => {
    const path = writeSmallModel(directory, LAYER);
    const out = join(directory, 'shards');
    const codeOf = async (options: Partial<SplitRequest & PartitionOptions>) =>
      (await errorOf(quantized(path, out, options))).code;
    const [cpu, other] = cpus(2);
    if (!cpu || !other) throw new Error('Expected two devices.');
    expect(await codeOf({ devices: [cpu, { ...other, provider: 'webgpu' }] })).toBe('QUANTIZE_PROVIDER');
    expect(await codeOf({ optimise: false })).toBe('QUANTIZE_UNPREPARED');
    const narrow = writeSmallModel(directory, { ...LAYER, inputs: { x: [5, 8] }, weights: { w: [8, 512], b: [512] } });
    const error = await errorOf(
      partition({ model: { path: narrow }, devices: cpus(1), dims: {}, wire: 'fp32', quantize: 'int8' }, out),
    );
    expect([error.code, error.message]).toEqual(['QUANTIZE_NOTHING', expect.stringMatching(/found none\. Export/)]);
  }));

/** What a processor without exact sums would prepare; every one can run it. */
test('where sums of int8 products clamp, weights become uint8 and mean the same', () =>
  inDirectory(async (directory) => {
    const out = join(directory, 'shards');
    const path = writeSmallModel(directory, LAYER);
    const manifest = await shard(path, out, 1, { quantize: 'int8' });
    const file = join(out, 'rank-0', 'profile-0-segment-000.onnx');
    const unsigned = join(out, 'rank-0', 'unsigned.onnx');
    await saveOptimised(file, 'cpu', { graph: unsigned }, false);
    const types = (decodeModel(readFileSync(unsigned)).graph?.initializer ?? []).map(({ dataType }) => dataType);
    expect(types).not.toContain(DataType.INT8);
    const { inputs } = await runWhole(path, manifest);
    const [signedSession, session] = [
      await openOptimised(file, { provider: 'cpu' }),
      await openOptimised(unsigned, { provider: 'cpu' }),
    ];
    const found = await session.run(inputs);
    if (await sumsAreExact()) expect(found).toEqual(await signedSession.run(inputs));
    await Promise.all([session.dispose(), signedSession.dispose()]);
  }));
