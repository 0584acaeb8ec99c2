/** Plans keep clear of what providers are known to get wrong; the same graph without the providers' names runs into it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Provider } from '#tandem/common/onnxruntime.js';
import type { Graph } from '#tandem/partition/graph/graph.js';
import { intsAttribute } from '#tandem/partition/onnx/index.js';
import { choose } from '#tandem/partition/plan/choose.js';
import { ratesOf } from '#tandem/partition/plan/rates.js';
import { place } from '#tandem/partition/plan/states.js';
import { findQuirk } from '#tandem/partition/rules/quirks.js';
import { node, runPartition, type SmallModel, writeSmallModel } from '../small-model.js';
import { inDirectory, readGraph } from '../stages.js';

const DIMS = { batch_size: 2, height: 8, width: 8, sequence_length: 16 };
const graph = await readGraph('models/emoji-sd/unet/model.onnx', DIMS);

/** Names of the nodes that a WebGPU rank of the plan would get wrong. */
const wrongNodes = (whole: Graph, speeds: readonly number[], providers: readonly Provider[]): readonly string[] => {
  const placements = place(whole, { speeds, ...(providers.length > 0 ? { providers } : {}) });
  const rates = speeds.map((speed) => ratesOf({ provider: 'webgpu', speed }));
  const { rows } = choose(whole, placements, { rates, wireDtype: 'fp32', goal: 'memory' });
  const isWrong = (node: Graph['nodes'][number]) => {
    const row = rows.get(node);
    const isUnclear = (rank: number) => row && findQuirk(node, row, rank, 'webgpu')?.remedy.kind === 'multiple';
    return speeds.some((_, rank) => isUnclear(rank));
  };
  return whole.nodes.filter(isWrong).map(({ name }) => name);
};

describe('convolutions of 36 channels on two WebGPU ranks', () => {
  it('would read channels in threes, wrongly, if both ranks had 18', () => {
    expect(wrongNodes(graph, [1, 1], [])).not.toEqual([]);
  });

  it('are split at multiples of four, as 20 and 16', () => {
    expect(wrongNodes(graph, [1, 1], ['webgpu', 'webgpu'])).toEqual([]);
  });
});

it.each([[[2, 1]], [[1, 1, 1, 1]], [[1, 2, 3]]])('no rank at speeds %s gets a convolution wrong', (speeds) => {
  expect(
    wrongNodes(
      graph,
      speeds,
      speeds.map(() => 'webgpu'),
    ),
  ).toEqual([]);
});

describe('a convolution of nine channels, as inpainting models begin with', () => {
  const model: SmallModel = {
    inputs: { sample: [2, 9, 8, 8] },
    weights: { kernel: [8, 9, 3, 3] },
    nodes: [node('Conv', ['sample', 'kernel'], 'out', intsAttribute('pads', [1, 1, 1, 1]))],
    outputs: ['out'],
  };

  const run = (provider: Provider) =>
    inDirectory(async (directory) => {
      const path = writeSmallModel(directory, model);
      const devices = [{ provider, deviceId: 0 }];
      const outcome = await runPartition(
        { model: { path }, devices, dims: {}, wire: 'fp32' },
        join(directory, 'shards'),
      );
      const [segment] = outcome.manifest.profiles[0]?.ranks[0]?.segments ?? [];
      const graph = readFileSync(join(directory, 'shards', segment?.file ?? ''), 'latin1');
      return { error: outcome.error, filled: graph.includes('@filled') };
    });

  it('is filled up with zeros to twelve for WebGPU, and gives the same', async () => {
    const { error, filled } = await run('webgpu');
    expect(filled).toBe(true);
    expect(error).toBeLessThan(1e-5);
  });

  it('stays as it is for a CPU', async () => {
    expect((await run('cpu')).filled).toBe(false);
  });
});

describe.each(['Sin', 'Cos'])('the %s of angles of many turns', (operator) => {
  const model: SmallModel = {
    inputs: { angle: [64] },
    nodes: [
      node('Exp', ['angle'], 'wide'),
      node('Mul', ['wide', 'wide'], 'wider'),
      node('Mul', ['wider', 'wider'], 'far'),
      node(operator, ['far'], 'out'),
    ],
    outputs: ['out'],
  };

  const run = (provider: Provider) =>
    inDirectory(async (directory) => {
      const path = writeSmallModel(directory, model);
      const devices = [{ provider, deviceId: 0 }];
      const { error, manifest } = await runPartition(
        { model: { path }, devices, dims: {}, wire: 'fp32' },
        join(directory, 'shards'),
      );
      const [segment] = manifest.profiles[0]?.ranks[0]?.segments ?? [];
      const graph = readFileSync(join(directory, 'shards', segment?.file ?? ''), 'latin1');
      return { error, turned: graph.includes('@turned') };
    });

  it('has whole turns taken away for WebGPU, and gives the same', async () => {
    const { error, turned } = await run('webgpu');
    expect(turned).toBe(true);
    expect(error).toBeLessThan(1e-5);
  });

  it('stays as it is for a CPU', async () => {
    expect((await run('cpu')).turned).toBe(false);
  });
});
