/** Plans keep clear of what providers are known to get wrong; the same graph without the providers' names runs into it. */
import { describe, expect, it } from 'vitest';
import type { Provider } from '#tandem/common/onnxruntime.js';
import type { Graph } from '#tandem/partition/graph/graph.js';
import { choose } from '#tandem/partition/plan/choose.js';
import { ratesOf } from '#tandem/partition/plan/rates.js';
import { place } from '#tandem/partition/plan/states.js';
import { findQuirk } from '#tandem/partition/rules/quirks.js';
import { readGraph } from '../stages.js';

const DIMS = { batch_size: 2, height: 8, width: 8, sequence_length: 16 };
const graph = await readGraph('models/emoji-sd/unet/model.onnx', DIMS);

/** Names of the nodes that a WebGPU rank of the plan would get wrong. */
const wrongNodes = (whole: Graph, speeds: readonly number[], providers: readonly Provider[]): readonly string[] => {
  const placements = place(whole, { speeds, ...(providers.length > 0 ? { providers } : {}) });
  const rates = speeds.map((speed) => ratesOf({ provider: 'webgpu', speed }));
  const { rows } = choose(whole, placements, { rates, wireDtype: 'fp32', goal: 'memory' });
  const isWrong = (node: Graph['nodes'][number]) => {
    const row = rows.get(node);
    return row !== undefined && speeds.some((_, rank) => findQuirk(node, row, rank, 'webgpu'));
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
