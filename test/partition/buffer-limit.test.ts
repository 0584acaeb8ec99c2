/** The largest tensor that a device takes: plans split what is larger, or say its name before anything is loaded. */
import { expect, it } from 'vitest';
import { type PlanReport, plan } from '#tandem/partition/index.js';
import { node, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory } from './stages.js';

/** A product whose result is far larger than its operands: 256 x 4096 float32, 4 MiB. */
const WIDE: SmallModel = {
  inputs: { x: [256, 16] },
  weights: { up: [16, 4096], down: [4096, 16] },
  nodes: [
    node('MatMul', ['x', 'up'], 'wide'),
    node('Relu', ['wide'], 'active'),
    node('MatMul', ['active', 'down'], 'out'),
  ],
  outputs: ['out'],
};

const MIB = 2 ** 20;

const planFor = (limits: readonly number[]): Promise<PlanReport> =>
  inDirectory((directory) => {
    const devices = limits.map((bufferLimit) => ({ provider: 'webgpu' as const, deviceId: 0, bufferLimit }));
    const path = writeSmallModel(directory, WIDE);
    return plan({ model: { path }, devices, dims: {}, wire: 'fp32' });
  });

it('a tensor above the limit is split where there are ranks to split it over', async () => {
  const report = await planFor([3 * MIB, 3 * MIB]);
  expect(report.sharded_flop_fraction).toBe(1);
  expect(report.alternatives.find(({ name }) => name === 'single-device')).toMatchObject({ fits: false });
});

it('where there are none it is refused by its name, shape and size, with the device and its limit', async () => {
  await expect(planFor([3 * MIB])).rejects.toMatchObject({
    code: 'PLAN_BUFFER',
    problems: expect.arrayContaining([
      expect.stringMatching(
        /^"wide" \(float32 \[256, 4096\]\) takes 4 MiB of rank 0, and its device \(webgpu\) takes tensors of at most 3 MiB$/,
      ),
    ]),
  });
});

it('nothing is refused below the limit', async () => {
  expect((await planFor([5 * MIB])).world_size).toBe(1);
});
