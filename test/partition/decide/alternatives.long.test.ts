/** What else could be done with the same devices, and shares that fit unequal memories. */
import { describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { shareOut } from '#tandem/partition/decide/decide.js';
import { type DeviceSpec, type PlanReport, plan, type Split } from '#tandem/partition/index.js';
import { RATES, scaleRates } from '#tandem/partition/plan/rates.js';
import { graphOnly, materialise } from '../../fixtures/materialise.js';
import { runSplit } from '../small-model.js';
import { inDirectory } from '../stages.js';

const MIB = 2 ** 20;
const cpu: DeviceSpec = { provider: 'cpu', deviceId: 0 };

const planTiny = (devices: readonly DeviceSpec[], split: Split = 'tensor'): Promise<PlanReport> =>
  inDirectory(async (directory) =>
    plan({ model: { path: await graphOnly('tiny-ts17', directory) }, devices, dims: {}, wire: 'fp32', split }),
  );

const needs = ({ ranks }: PlanReport): readonly number[] =>
  ranks.map(({ weight_bytes, activation_peak_bytes }) => weight_bytes + activation_peak_bytes);

describe('the alternatives of a plan', () => {
  it('are the plan itself, one device, and the halves of the guidance batch, with their figures', async () => {
    const { alternatives, predicted, wire_bytes_per_step } = await planTiny([cpu, cpu]);
    const [own, single, batch] = alternatives;
    expect(own).toMatchObject({ name: 'tensor-parallel', step_ms: predicted.step_ms, wire_bytes_per_step, fits: true });
    expect(single).toMatchObject({ name: 'single-device', wire_bytes_per_step: 0, fits: true });
    expect(single?.step_ms).toBeCloseTo(predicted.single_step_ms, 6);
    const whole = single?.weight_bytes_per_rank[0] ?? 0;
    expect(batch).toMatchObject({ name: 'guidance-batch', fits: true });
    expect(batch?.weight_bytes_per_rank).toHaveLength(2);
    for (const bytes of batch?.weight_bytes_per_rank ?? []) expect(bytes / whole).toBeCloseTo(1, 2);
    // Each rank sends its half of the noise prediction: [1, 4, 16, 16] in single precision.
    expect(batch?.wire_bytes_per_step).toBe(4 * 4 * 16 * 16);
  });

  it('say which of them fits, and recommend none that does not', async () => {
    const small = { ...cpu, memoryLimit: 28 * MIB };
    const { alternatives, recommendation } = await planTiny([small, small]);
    expect(alternatives.map(({ name, fits }) => [name, fits])).toEqual([
      ['tensor-parallel', true],
      ['single-device', false],
      ['guidance-batch', false],
    ]);
    expect(recommendation).toBeNull();
  });

  it('are recommended in one line where one is faster', async () => {
    const { recommendation } = await planTiny([cpu, cpu]);
    expect(recommendation).toMatch(/^Split the guidance batch instead .*: a step is \d+\.\d+ times as fast, with 1\.9/);
  });
});

describe('a batch that is split', () => {
  it('gives the whole model’s numbers on every rank, with one exchange', async () => {
    await inDirectory(async (directory) => {
      const modelPath = await materialise('tiny-ts17', directory);
      const { error, weightBytes } = await runSplit(modelPath, `${directory}/shards`, [1, 1], { split: 'batch' });
      expect(error).toBeLessThan(1e-5);
      expect(weightBytes).toBeGreaterThan(30 * MIB);
    });
    const { collectives } = await planTiny([cpu, cpu], 'batch');
    expect(collectives.map(({ kind }) => kind)).toEqual(['all-gather']);
  });

  it('is refused where there are more ranks than parts', async () => {
    await expect(planTiny([cpu, cpu, cpu], 'batch')).rejects.toThrowError(
      expect.objectContaining({ code: 'PLAN_BATCH', message: expect.stringContaining('found 2') }),
    );
  });
});

describe('memory limits', () => {
  it('reshape the plan: a rank with less room holds less', async () => {
    const limit = 18 * MIB;
    const free = await planTiny([cpu, cpu]);
    expect(needs(free)[1]).toBeGreaterThan(limit);
    const tight = await planTiny([cpu, { ...cpu, memoryLimit: limit }]);
    expect(needs(tight)[1]).toBeLessThanOrEqual(limit);
    expect(tight.ranks[0]?.weight_bytes ?? 0).toBeGreaterThan(free.ranks[0]?.weight_bytes ?? 0);
    expect(tight.ranks[1]?.memory_limit_bytes).toBe(limit);
  });

  it('are refused with figures where no share fits', async () => {
    const planning = planTiny([
      { ...cpu, memoryLimit: 20 * MIB },
      { ...cpu, memoryLimit: 4 * MIB },
    ]);
    const error = await planning.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof TandemError)) throw new Error(`Expected a TandemError, found ${String(error)}.`);
    expect(error.code).toBe('PLAN_MEMORY');
    expect(error.problems.at(-1)).toMatch(
      /^rank 1 \(cpu:0\) needs \d+ MiB for weights and activations and may use 4 MiB$/,
    );
  });
});

it('divides by the rates that were measured where no speed is given', async () => {
  const fast = { ...cpu, rates: scaleRates(RATES.cpu, 3) };
  const slow = { ...cpu, rates: RATES.cpu };
  const [first, second] = (await planTiny([fast, slow])).ranks;
  expect((first?.weight_bytes ?? 0) / (second?.weight_bytes ?? 1)).toBeGreaterThan(2);
  const [equal, other] = (
    await planTiny([
      { ...fast, speed: 1 },
      { ...slow, speed: 1 },
    ])
  ).ranks;
  expect((equal?.weight_bytes ?? 0) / (other?.weight_bytes ?? 1)).toBeCloseTo(1, 1);
});

it('shares out by speed up to each cap, and knows when the caps are too small', () => {
  expect(shareOut([1, 1], [1, 1])).toEqual([0.5, 0.5]);
  expect(shareOut([3, 1], [0.5, 1])).toEqual([0.5, 0.5]);
  expect(shareOut([1, 1, 2], [0.1, 1, 1])?.map((share) => Math.round(share * 100))).toEqual([10, 30, 60]);
  expect(shareOut([1, 1], [0.4, 0.5])).toBeUndefined();
});
