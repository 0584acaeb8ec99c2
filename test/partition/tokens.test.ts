/** A split of tokens and rows: each rank has all weights, and computes a part of each picture. */
import { describe, expect, it } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { openSession } from '#tandem/common/onnxruntime.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { decide } from '#tandem/partition/decide/decide.js';
import { type MadeReport, makeReport } from '#tandem/partition/decide/report.js';
import { open } from '#tandem/partition/open.js';
import { readModel } from '#tandem/partition/read/index.js';
import { dimsOf } from '../fixtures/families.js';
import { materialise } from '../fixtures/materialise.js';
import { runInMemory } from './in-memory.js';
import { type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory } from './stages.js';

interface Outcome {
  readonly error: number;
  readonly report: MadeReport;
}

/** Runs a model whole and by tokens; max |a - b| / max |b| over all outputs and ranks. */
const runByTokens = async (path: string, ranks: number, dims = {}): Promise<Outcome> => {
  // So slow that every exchange is worth it.
  const devices = Array.from({ length: ranks }, () => ({ provider: 'cpu', deviceId: 0, speed: 0.01 }) as const);
  const request = { model: { path }, dims, devices, wire: 'fp32', split: 'tokens' } as const;
  const { graph, how } = await open(await readModel(path, { requireWeights: true }), request, {});
  const decided = decide(graph, how);
  const specs = graph.inputs.map(({ name, dtype, shape = [] }) => ({ name, dtype, shape }));
  const inputs = randomInputs(specs, 7);
  const session = await openSession(path, { provider: 'cpu', optimization: 'all' });
  const expected = await session.run(inputs);
  await session.dispose();
  const results = await runInMemory(decided.programs, inputs);
  const errors = results.map((held) => {
    const own = Object.keys(expected).flatMap((name) => (held[name] ? [[name, held[name]] as const] : []));
    return compareOutputs(Object.fromEntries(own), expected).max_rel_error;
  });
  return { error: Math.max(...errors), report: makeReport(decided) };
};

const runFamily = (name: string, ranks: number): Promise<Outcome> =>
  inDirectory(async (directory) => runByTokens(await materialise(`families/${name}`, directory), ranks, dimsOf(name)));

const kindsOf = ({ collectives }: MadeReport): ReadonlySet<string> => new Set(collectives.map(({ kind }) => kind));

describe('a transformer by tokens', () => {
  it('gives on three ranks what it gives whole, with all weights on each', async () => {
    const { error, report } = await runFamily('dit-ts17', 3);
    expect(error).toBeLessThanOrEqual(1e-5);
    expect(report.sharded_flop_fraction).toBeGreaterThan(0.95);
    expect(report.sharded_weight_fraction).toBeLessThan(0.01);
    expect(Math.max(...report.ranks.map(({ flop_fraction }) => flop_fraction))).toBeLessThan(0.4);
    // Tokens for heads and back, and the picture in the end: nothing is summed.
    expect(kindsOf(report)).toEqual(new Set(['all-to-all', 'all-gather']));
  });
});

describe('a UNet by rows', () => {
  it('sends rows to neighbours and sums moments, and gives what it gives whole', async () => {
    const { error, report } = await runFamily('sdxl-ts17', 2);
    expect(error).toBeLessThanOrEqual(1e-5);
    expect(report.sharded_flop_fraction).toBeGreaterThan(0.95);
    expect([...kindsOf(report)]).toEqual(expect.arrayContaining(['all-gather', 'all-reduce', 'halo']));
    const sums = report.collectives.filter(({ kind }) => kind === 'all-reduce');
    expect(Math.max(...sums.map(({ bytes }) => bytes))).toBeLessThanOrEqual(2 * 12 * 4);
  });
});

it('is refused of a model that has no tokens', async () => {
  const table: SmallModel = {
    inputs: { x: [1, 64] },
    weights: { w: [64, 64] },
    nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    outputs: ['y'],
  };
  await inDirectory(async (directory) => {
    await expect(runByTokens(writeSmallModel(directory, table), 2)).rejects.toMatchObject({ code: 'PLAN_TOKENS' });
  });
});
