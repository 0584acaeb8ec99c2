/** ONNX Runtime's fused operators are taken apart: what they give on shards is what they give whole. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { openSession } from '#tandem/common/onnxruntime.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { partition } from '#tandem/partition/index.js';
import { floatAttribute, intAttribute } from '#tandem/partition/onnx/index.js';
import { runShards } from './run-shards.js';
import { node, runSmallModel, type SmallModel, type SmallNode, weightBytes } from './small-model.js';
import { inDirectory } from './stages.js';

const contrib = (
  op: string,
  inputs: readonly string[],
  output: string,
  ...attributes: SmallNode['attributes'] & object
) => ({
  ...node(op, inputs, output, ...attributes),
  domain: 'com.microsoft',
});

/** A fused operator between two products, of tokens `[2, 5, 24]`. */
const between = (fused: readonly SmallNode[], weights: SmallModel['weights'], out = 24): SmallModel => ({
  inputs: { x: [2, 5, 16], skip: [2, 5, 24] },
  weights: { first: [16, 24], last: [out, 20], ...weights },
  nodes: [node('MatMul', ['x', 'first'], 'h'), ...fused, node('MatMul', ['r', 'last'], 'y')],
  outputs: ['y'],
});

const HEADS = intAttribute('num_heads', 6);

/** Those that the CPU provider can run as they are, which is what they are compared with. */
const RUNNABLE: Readonly<Record<string, SmallModel>> = {
  SkipLayerNormalization: between(
    [contrib('SkipLayerNormalization', ['skip', 'h', 'gamma', 'beta', 'bias'], 'r', floatAttribute('epsilon', 1e-5))],
    { gamma: [24], beta: [24], bias: [24] },
  ),
  'SkipLayerNormalization whose sum is read as well': between(
    [
      {
        ...contrib('SkipLayerNormalization', ['skip', 'h', 'gamma', 'beta'], 'n', floatAttribute('epsilon', 1e-5)),
        outputs: ['n', '', '', 'sum'],
      },
      node('Add', ['n', 'sum'], 'r'),
    ],
    { gamma: [24], beta: [24] },
  ),
  SkipSimplifiedLayerNormalization: between(
    [contrib('SkipSimplifiedLayerNormalization', ['skip', 'h', 'gamma'], 'r', floatAttribute('epsilon', 1e-5))],
    { gamma: [24] },
  ),
  'FastGelu with a bias': between([contrib('FastGelu', ['h', 'bias'], 'r')], { bias: [24] }),
  BiasGelu: between([contrib('BiasGelu', ['h', 'bias'], 'r')], { bias: [24] }),
  'MultiHeadAttention with a bias': between(
    [
      node('MatMul', ['skip', 'toKey'], 'k'),
      node('MatMul', ['skip', 'toValue'], 'v'),
      contrib('MultiHeadAttention', ['h', 'k', 'v', 'bias'], 'r', HEADS),
    ],
    { toKey: [24, 24], toValue: [24, 24], bias: [72] },
  ),
  'Attention with its projection': between([contrib('Attention', ['h', 'qkv', 'bias'], 'r', HEADS)], {
    qkv: [24, 72],
    bias: [72],
  }),
};

it.each(Object.entries(RUNNABLE))('%s', async (_, model) => {
  const split = await runSmallModel(model, [2, 1, 1]);
  expect(split.error).toBeLessThan(1e-5);
  expect(split.weightBytes, 'the weights are split').toBeLessThan(weightBytes(model) * 0.8);
});

const unzip = (name: string, directory: string): string => {
  const path = join(directory, `${name}.onnx`);
  const zipped = readFileSync(fileURLToPath(new URL(`../fixtures/families/${name}.onnx.gz`, import.meta.url)));
  writeFileSync(path, gunzipSync(zipped));
  return path;
};

it('a UNet fused for CUDA, which the CPU provider cannot run, gives split what the UNet gives before it was fused', async () => {
  await inDirectory(async (directory) => {
    const out = join(directory, 'shards');
    const manifest = await partition(
      {
        model: { path: unzip('pair-fused', directory) },
        devices: [2, 1].map((speed) => ({ provider: 'cpu', deviceId: 0, speed })),
        dims: {},
        wire: 'fp32',
      },
      out,
      { optimise: false },
    );
    const inputs = randomInputs(manifest.profiles[0]?.inputs ?? [], 7);
    const whole = await openSession(unzip('pair-plain', directory), { provider: 'cpu', optimization: 'all' });
    const expected = await whole.run(inputs);
    await whole.dispose();
    for (const outputs of await runShards(out, manifest, inputs)) {
      expect(compareOutputs(outputs, expected).max_rel_error).toBeLessThan(1e-5);
    }
  });
});
