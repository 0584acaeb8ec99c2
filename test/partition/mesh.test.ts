/** Where a model is cut for a pipeline, and what the ways to use several devices cost. */
import { describe, expect, it } from 'vitest';
import { bestFor, type MeshCost, planMeshes, planPipeline, shapesOf, tensorsOverAll } from '#tandem/partition/index.js';

const MODEL = { path: 'models/emoji-sd/unet/model.onnx' };
const APART = { batch_size: 1, height: 8, width: 8, sequence_length: 16 };
const devices = (count: number, more = {}) =>
  Array.from({ length: count }, () => ({ provider: 'cpu', deviceId: 0, ...more }) as const);
const request = (count: number, more = {}) => ({
  model: MODEL,
  dims: APART,
  devices: devices(count, more),
  wire: 'fp32' as const,
});

describe('a pipeline', () => {
  it('shares work and weights of a UNet out among two stages, and leaves no node out', async () => {
    const { stretches, outputs } = await planPipeline(request(2), 2);
    expect(stretches[0]?.from).toBe(0);
    for (const [index, { from }] of stretches.entries()) if (index > 0) expect(from).toBe(stretches[index - 1]?.to);
    expect(new Set(stretches.map(({ stage }) => stage))).toEqual(new Set([0, 1]));
    expect(outputs).toEqual(['out_sample']);
  });

  it('is refused of a model that has fewer nodes than stages', async () => {
    await expect(planPipeline(request(700), 700)).rejects.toMatchObject({ code: 'PLAN_PIPELINE' });
  });
});

describe('the shapes of a mesh', () => {
  it('are all products of the number of devices, with guidance for two passes at most', () => {
    expect(shapesOf(2)).toHaveLength(5);
    for (const count of [1, 2, 3, 4, 6, 8])
      for (const { tensor, tokens, guidance, pipeline, replicas } of shapesOf(count)) {
        expect(tensor * tokens * guidance * pipeline * replicas).toBe(count);
        expect(guidance).toBeLessThanOrEqual(2);
        expect(Math.min(tensor, tokens)).toBe(1);
      }
  });
});

describe('the costs of a mesh', () => {
  const find = (costs: readonly MeshCost[], way: 'tokens' | 'guidance' | 'pipeline' | 'replicas') =>
    costs.find(({ shape }) => shape[way] === 2);

  it('tell latency from throughput, weigh the weights, and leave out what does not fit', async () => {
    const asked = { ...request(2, { memoryLimit: 10_000_000 }), dims: { ...APART, batch_size: 2 }, apart: APART };
    const costs = await planMeshes({ ...asked, concurrency: 4 });
    const [guidance, pipeline, replicas] = [find(costs, 'guidance'), find(costs, 'pipeline'), find(costs, 'replicas')];
    const single = costs.find(({ devices: used }) => used.length === 1);
    const ratio = (a: number | undefined, b: number | undefined): number => (a ?? 0) / (b ?? 1);
    expect(replicas?.latency_step_ms).toBe(single?.latency_step_ms);
    expect(ratio(single?.throughput_step_ms, replicas?.throughput_step_ms)).toBeCloseTo(2);
    expect(guidance?.latency_step_ms).toBeLessThan(single?.latency_step_ms ?? 0);
    expect(ratio(pipeline?.weight_bytes, single?.weight_bytes)).toBeLessThan(0.55);
    expect([guidance, replicas, single].map((cost) => cost?.fits)).toEqual([false, false, false]);
    expect(pipeline?.fits).toBe(true);
    const tokens = find(costs, 'tokens');
    expect(tokens?.fits).toBe(false);
    expect(ratio(tokens?.weight_bytes, single?.weight_bytes)).toBeCloseTo(1);
    expect(tokens?.throughput_step_ms).toBe(tokens?.latency_step_ms);
    const fitting = costs.filter(({ fits }) => fits);
    expect(fitting.map(({ shape }) => shape.tensor * shape.pipeline)).toEqual([2, 2]);
    const least = Math.min(...fitting.map((cost) => cost.throughput_step_ms));
    const best = bestFor(costs, 'throughput') ?? tensorsOverAll(costs);
    expect(best?.throughput_step_ms).toBeLessThanOrEqual(least / 0.97);
  });
});
