/** Partial tensors: whole in one collective or in two, or left in parts; the numbers are the same. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type CollectiveKind, findConversions, findForm, sentElements } from '#tandem/partition/graph/collective.js';
import { apportion, PARTIAL, REPLICATE, type Shard } from '#tandem/partition/graph/placement.js';
import type { DeviceSpec } from '#tandem/partition/index.js';
import { intAttribute } from '#tandem/partition/onnx/index.js';
import { manifestProblems } from '#tandem/partition/write/manifest-rules.js';
import { cpus, type Run, runModel } from './collective-runs.js';
import { node, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory } from './stages.js';

const run = (model: SmallModel, devices: readonly DeviceSpec[], wire: 'fp32' | 'fp16' = 'fp32'): Promise<Run> =>
  inDirectory((directory) =>
    runModel(
      { model: { path: writeSmallModel(directory, model) }, devices, dims: {}, wire },
      join(directory, 'shards'),
    ),
  );

const kindsOf = ({ report }: Run): readonly CollectiveKind[] => report.collectives.map(({ kind }) => kind);

const bitsOf = ({ outputs }: Run): readonly string[] =>
  outputs.map((rank) => Object.values(rank).map(({ data }) => Buffer.from(data).toString('hex'))).map(String);

const TWO_PRODUCTS: SmallModel = {
  inputs: { x: [5, 24] },
  weights: { w1: [24, 96], w2: [96, 20] },
  nodes: [node('MatMul', ['x', 'w1'], 'h'), node('Relu', ['h'], 'r'), node('MatMul', ['r', 'w2'], 'y')],
  outputs: ['y'],
};

describe('a partial tensor that is wanted whole', () => {
  it('has the same bits on all ranks in one collective and in two, and sends half as much in two on four ranks', async () => {
    const whole = 5 * 20 * 4;
    const direct = await run(TWO_PRODUCTS, cpus([1, 1, 1, 1], 1));
    const twoPhase = await run(TWO_PRODUCTS, cpus([1, 1, 1, 1], 0));
    expect(kindsOf(direct)).toEqual(['all-reduce']);
    expect(kindsOf(twoPhase)).toEqual(['reduce-scatter', 'all-gather']);
    expect(new Set([...bitsOf(direct), ...bitsOf(twoPhase)]).size).toBe(1);
    expect(twoPhase.error).toBeLessThan(1e-5);
    expect(direct.report.wire_bytes_per_step).toBe(3 * whole);
    expect(twoPhase.report.collectives.map(({ bytes }) => bytes)).toEqual([(3 / 4) * whole, (3 / 4) * whole]);
    expect(twoPhase.report.wire_bytes_per_step).toBe((3 / 2) * whole);
    expect(twoPhase.manifest.profiles[0]?.wire_bytes_per_step).toBe((3 / 2) * whole);
    expect([direct.report.segments, twoPhase.report.segments]).toEqual([2, 3]);
  });

  it('has the same bits where neither the weights nor the parts in between come out even', async () => {
    const direct = await run(TWO_PRODUCTS, cpus([3, 1, 2], 1));
    const twoPhase = await run(TWO_PRODUCTS, cpus([3, 1, 2], 0));
    expect(kindsOf(direct)).toEqual(['all-reduce']);
    expect(kindsOf(twoPhase)).toEqual(['reduce-scatter', 'all-gather']);
    expect(new Set([...bitsOf(direct), ...bitsOf(twoPhase)]).size).toBe(1);
  });

  it('stays the same on all ranks where the wire rounds', async () => {
    const twoPhase = await run(TWO_PRODUCTS, cpus([1, 1, 1], 0), 'fp16');
    expect(kindsOf(twoPhase)).toEqual(['reduce-scatter', 'all-gather']);
    expect(new Set(bitsOf(twoPhase)).size).toBe(1);
    expect(twoPhase.error).toBeGreaterThan(0);
    expect(twoPhase.error).toBeLessThan(2e-3);
  });
});

/** `y` is narrow between wide products, so both of its products have their weights split by rows. */
const BETWEEN_ROWS: SmallModel = {
  inputs: { x: [3, 16] },
  weights: { w1: [16, 256], w2: [256, 48], w3: [48, 4] },
  nodes: [
    node('MatMul', ['x', 'w1'], 'h'),
    node('Relu', ['h'], 'r'),
    node('MatMul', ['r', 'w2'], 'y'),
    node('Relu', ['y'], 'a'),
    node('MatMul', ['a', 'w3'], 'z'),
  ],
  outputs: ['z'],
};

/** The same with a gate, whose halves are split each by itself. */
const GATED: SmallModel = {
  inputs: BETWEEN_ROWS.inputs,
  weights: { w1: [16, 256], w2: [256, 48], w3: [24, 4] },
  nodes: [
    ...BETWEEN_ROWS.nodes.slice(0, 3),
    { op: 'Split', inputs: ['y'], outputs: ['left', 'right'], attributes: [intAttribute('axis', 1)] },
    node('Sigmoid', ['right'], 'gate'),
    node('Mul', ['left', 'gate'], 'a'),
    node('MatMul', ['a', 'w3'], 'z'),
  ],
  outputs: ['z'],
};

describe('a partial tensor whose readers take parts', () => {
  it.each([
    ['one stretch', BETWEEN_ROWS, [3, 1, 2]],
    ['two stretches', GATED, [1, 2, 1, 1]],
    ['two stretches', GATED, [1, 1]],
  ])('is scattered and never whole, in %s: %#', async (_, model, speeds) => {
    const scattered = await run(model, cpus(speeds, 0));
    const [first, ...rest] = scattered.report.collectives;
    expect(first).toMatchObject({ kind: 'reduce-scatter', shape: [3, 48] });
    expect(rest.every(({ shape }) => shape.join() === '3,4')).toBe(true);
    expect(scattered.error).toBeLessThan(1e-5);
    expect(manifestProblems(scattered.manifest)).toEqual([]);
  });

  it('is scattered and whole where others want all of it', async () => {
    const { nodes, weights } = BETWEEN_ROWS;
    const both = await run(
      {
        ...BETWEEN_ROWS,
        weights: { ...weights },
        nodes: [...nodes, node('Softmax', ['y'], 'p', intAttribute('axis', 1))],
        outputs: ['z', 'p'],
      },
      cpus([2, 1, 1], 0),
    );
    const ofY = both.report.collectives.filter(({ tensor }) => tensor === 'y');
    expect(ofY.map(({ kind }) => kind)).toEqual(['reduce-scatter', 'all-gather']);
    expect(both.error).toBeLessThan(1e-5);
    expect(new Set(bitsOf(both)).size).toBe(1);
  });
});

describe('a tensor that moves from shard to shard', () => {
  const shard = (axis: number, bounds: readonly number[], halo?: Shard['halo']): Shard => ({
    kind: 'shard',
    axis,
    pieces: [{ extent: bounds.at(-1) ?? 0, bounds }],
    ...(halo ? { halo } : {}),
  });
  const [rows, columns] = [shard(0, [0, 3, 6, 10]), shard(1, [0, 2, 3, 4])];
  const withNeighbours = shard(0, [0, 3, 6, 10], { before: 1, after: 2 });
  const others = [rows, columns, withNeighbours, shard(0, [0, 4, 6, 10], { before: 1, after: 0 })];

  it('may do so only where that is asked for, to another axis or to more of the same rows', () => {
    const kinds = (mayMove: boolean) =>
      findConversions(rows, [10, 4], others, 3, mayMove).map((way) => way.map(({ kind }) => kind));
    expect(kinds(false)).toEqual([[], ['all-gather']]);
    expect(kinds(true)).toEqual([[], ['all-gather'], ['all-to-all'], ['halo']]);
  });

  it('sends each rank its part of the other axis, and neighbours the rows at the edge', () => {
    const sent = (kind: 'all-to-all' | 'halo', to: Shard) =>
      [0, 1, 2].map((rank) => sentElements([10, 4], { kind, from: rows, to }, rank, 3));
    expect(sent('all-to-all', columns)).toEqual([3 * 2, 3 * 3, 4 * 3]);
    expect(sent('halo', withNeighbours)).toEqual([1 * 4, (2 + 1) * 4, 2 * 4]);
  });
});

const shardOf = (axis: number, extent: number, speeds: readonly number[]): Shard => {
  const piece = apportion(extent, extent, speeds);
  if (!piece) throw new Error(`Expected ${extent} to have a part for each rank.`);
  return { kind: 'shard', axis, pieces: [piece] };
};

describe('the forms of a tensor', () => {
  const wanted = shardOf(1, 10, [3, 1, 1]);

  it('are those that somebody reads, and in between the most even shard', () => {
    const ways = findConversions(PARTIAL, [4, 10, 9], [wanted], 3);
    const between = ways.filter(([first]) => first?.kind === 'reduce-scatter').map((way) => way.map(({ to }) => to));
    const even = shardOf(2, 9, [1, 1, 1]);
    expect(between).toEqual([[wanted], [wanted, REPLICATE], [even, REPLICATE]]);
    expect(findConversions(REPLICATE, [4, 10, 9], [wanted], 3)).toEqual([[]]);
  });

  it('are not scattered where no axis has a part for each rank', () => {
    expect(findConversions(PARTIAL, [2, 1], [], 3).map((way) => way.map(({ kind }) => kind))).toEqual([
      [],
      ['all-reduce'],
    ]);
  });

  it('come one collective after the other, and the first that fits is read', () => {
    const [, , , conversions = []] = findConversions(PARTIAL, [4, 10, 9], [wanted], 3);
    const state = { made: PARTIAL, conversions };
    expect([PARTIAL, wanted, REPLICATE, shardOf(0, 4, [1, 1, 1])].map((form) => findForm(state, form))).toEqual([
      0, 1, 2, 2,
    ]);
    expect(findForm({ made: PARTIAL, conversions: [] }, REPLICATE)).toBeUndefined();
  });

  it('send to each peer what that peer needs', () => {
    const ways = findConversions(PARTIAL, [4, 10, 9], [wanted], 3);
    const sent = ways.map((way) => [0, 1, 2].map((rank) => way.map((one) => sentElements([4, 10, 9], one, rank, 3))));
    // Of 360 elements rank 0 keeps 6 of 10 and the others 2 each; evenly, all keep a third.
    expect(sent).toEqual([
      [[], [], []],
      [[720], [720], [720]],
      [[144], [288], [288]],
      [
        [144, 432],
        [288, 144],
        [288, 144],
      ],
      [
        [240, 240],
        [240, 240],
        [240, 240],
      ],
    ]);
  });
});
