/** Plans of real exports: how much of them is split, at how many exchanges, and why the rest is not. */
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { type DeviceSpec, type PlanReport, plan } from '#tandem/partition/index.js';
import { createNode, decodeModel, encodeModel, intAttribute } from '#tandem/partition/onnx/index.js';
import { knownOperators } from '#tandem/partition/rules/index.js';
import { graphOnly, materialise } from '../fixtures/materialise.js';
import { runSplit } from './small-model.js';
import { countSums, inDirectory } from './stages.js';

const cpus = (speeds: readonly number[], memoryLimit?: number): readonly DeviceSpec[] =>
  speeds.map((speed) => ({
    provider: 'cpu',
    deviceId: 0,
    speed,
    ...(memoryLimit === undefined ? {} : { memoryLimit }),
  }));

const planOf = (modelPath: string, devices: readonly DeviceSpec[], dims = {}): Promise<PlanReport> =>
  plan({ model: { path: modelPath }, devices, dims, wire: 'fp32' });

const planFixture = (name: string, devices: readonly DeviceSpec[], dims = {}): Promise<PlanReport> =>
  inDirectory(async (directory) => planOf(await graphOnly(name, directory), devices, dims));

/** Blocks of a UNet that end in one all-reduce each when they are split as by hand, told by the names of their nodes. */
const BLOCKS = [
  /^.*\/resnets\.\d+\//,
  /^.*\/attn[12]\//,
  /^.*\/ff\//,
  /^.*\/(?:down|up)samplers\.\d+\/conv\//,
] as const;

const countBlocks = async (modelPath: string): Promise<number> => {
  const { graph } = decodeModel(await readFile(modelPath));
  const names = (graph?.node ?? []).map(({ name }) => name);
  return BLOCKS.reduce((sum, block) => sum + new Set(names.flatMap((name) => block.exec(name)?.[0] ?? [])).size, 0);
};

const MEDIUM = { batch_size: 1, height: 64, width: 64, sequence_length: 77 };
const LARGE = { batch_size: 1, height: 128, width: 128, sequence_length: 77 };

describe.each([
  ['sd15-ts17', {}],
  ['sdxl-ts17-sym', LARGE],
])('the plan of %s', (name, dims) => {
  it.each([2, 4])(
    'splits nearly all weights and work on %i devices, at no more exchanges than by hand',
    async (count) => {
      await inDirectory(async (directory) => {
        const modelPath = await graphOnly(name, directory);
        const report = await planOf(modelPath, cpus(new Array<number>(count).fill(1)), dims);
        expect(report.sharded_weight_fraction).toBeGreaterThanOrEqual(0.95);
        expect(report.sharded_flop_fraction).toBeGreaterThanOrEqual(0.95);
        expect(countSums(report)).toBeLessThanOrEqual(await countBlocks(modelPath));
        const largest = Math.max(...report.ranks.map(({ flop_fraction }) => flop_fraction));
        expect(largest).toBeLessThan(1 / count + 0.06);
      });
    },
  );
});

it('splits tokens where there are more activations than weights, which sends less', async () => {
  const { collectives } = await planFixture('sd15-ts17', cpus([1, 1]));
  const tokens = (kind: string) =>
    collectives.filter((one) => one.kind === kind && one.tensor.includes('attentions') && one.shape.includes(64));
  // The five transformers at 64x64 are joined once at their end, where a split of their weights takes three all-reduces each.
  expect(tokens('all-gather')).toHaveLength(5);
  expect(collectives.filter(({ shape }) => shape.join() === '1,4096,320')).toEqual([]);
});

it('splits the batch where there is one and weights are small', async () => {
  const { collectives, sharded_weight_fraction } = await planFixture('sd15-ts17-sym', cpus([1, 1]), {
    ...MEDIUM,
    batch_size: 2,
  });
  const large = collectives.filter(({ shape }) => shape.at(-1) === 64 || shape.includes(4096));
  expect(large.length).toBeLessThan(6);
  expect(sharded_weight_fraction).toBeGreaterThanOrEqual(0.95);
});

it('gives a device of twice the speed about twice the weights and the work', async () => {
  const { ranks } = await planFixture('sd15-ts17', cpus([2, 1]));
  const [fast, slow] = ranks;
  if (!fast || !slow) throw new Error('Expected two ranks.');
  expect(fast.weight_bytes / slow.weight_bytes).toBeGreaterThan(1.6);
  expect(fast.weight_bytes / slow.weight_bytes).toBeLessThan(2.2);
  expect(fast.flop_fraction / slow.flop_fraction).toBeGreaterThan(1.5);
});

it('runs everything on one device without exchanges', async () => {
  const report = await planFixture('tiny-ts17', cpus([1]));
  expect(report).toMatchObject({ segments: 1, collective_count: 0, wire_bytes_per_step: 0, replicated: [] });
  expect(report.ranks[0]?.flop_fraction).toBe(1);
});

it('says of every node that stays whole why it does', async () => {
  const { replicated } = await planFixture('sd15-ts17', cpus([1, 1]));
  expect(replicated.length).toBeGreaterThan(0);
  for (const { node, op, reason } of replicated) {
    expect(node).not.toBe('');
    expect(knownOperators().includes(op) || reason.startsWith(`no rule for operator ${op}: `)).toBe(true);
    expect(reason).not.toBe('');
  }
});

it('refuses devices that are too small, and names each with what it would need', async () => {
  const planning = planFixture('sd15-ts17', cpus([1, 1], 1 << 30));
  const error = await planning.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof TandemError)) throw new Error(`Expected a TandemError, found ${String(error)}.`);
  expect(error.code).toBe('PLAN_MEMORY');
  expect(error.problems).toHaveLength(2);
  expect(error.problems[0]).toMatch(/^rank 0 \(cpu:0\) needs \d+ MiB .* may use 1024 MiB$/);
});

/** Puts an operator that has no rule behind the first SiLU of a real export. */
const insertHardmax = async (modelPath: string): Promise<void> => {
  const model = decodeModel(await readFile(modelPath));
  const nodes = model.graph?.node ?? [];
  const at = nodes.findIndex((node) => /resnets\.0\/nonlinearity\/Mul$/.test(node.name));
  const silu = nodes[at];
  const [output = ''] = silu?.output ?? [];
  if (!silu) throw new Error('The export has no SiLU by that name.');
  silu.output = ['before_hardmax'];
  const hardmax = createNode({
    name: 'hardmax',
    opType: 'Hardmax',
    input: ['before_hardmax'],
    output: [output],
    attribute: [intAttribute('axis', 1)],
  });
  nodes.splice(at + 1, 0, hardmax);
  await writeFile(modelPath, encodeModel(model));
};

it('keeps an operator that it does not know whole, says so, and is still right', async () => {
  expect(knownOperators()).not.toContain('Hardmax');
  await inDirectory(async (directory) => {
    const modelPath = await materialise('tiny-ts17', directory);
    await insertHardmax(modelPath);
    const { replicated, sharded_weight_fraction } = await planOf(modelPath, cpus([1, 1]));
    expect(replicated).toContainEqual(
      expect.objectContaining({
        node: 'hardmax',
        op: 'Hardmax',
        reason: expect.stringMatching(/^no rule for operator Hardmax: ./),
      }),
    );
    expect(sharded_weight_fraction).toBeGreaterThan(0.9);
    const { error } = await runSplit(modelPath, `${directory}/shards`, [1, 1]);
    expect(error).toBeLessThan(1e-4);
  });
});
