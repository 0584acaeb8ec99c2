/** Writes by constant index become slices and concatenations: the same numbers, and nothing is read that is overwritten. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { intAttribute, stringAttribute } from '#tandem/partition/onnx/index.js';
import { node, runSmallModel, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory, readGraph } from './stages.js';

const range = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);

/** Index tuples in row-major order, one number of each list. */
const tuples = (...lists: readonly (readonly number[])[]): readonly number[] =>
  lists
    .reduce<readonly (readonly number[])[]>(
      (rows, list) => rows.flatMap((row) => list.map((one) => [...row, one])),
      [[]],
    )
    .flat();

const even = range(8).map((i) => 2 * i);
const odd = even.map((i) => i + 1);

/** A projection to 6 heads of 16, half of each written to even places and half to odd ones, as rotary embeddings are. */
const rotary: SmallModel = {
  inputs: { x: [2, 5, 32] },
  weights: { wa: [32, 48], wb: [32, 48], scratch: [2, 5, 6, 16], wo: [96, 32] },
  ints: {
    half: [2, 5, 6, 8],
    flat: [2, 5, 96],
    indices: [2, 5, 6, 8, 4],
    evenFlat: tuples(range(2), range(5), range(6), even),
    oddFlat: tuples(range(2), range(5), range(6), odd),
  },
  nodes: [
    node('MatMul', ['x', 'wa'], 'pa'),
    node('MatMul', ['x', 'wb'], 'pb'),
    node('Reshape', ['pa', 'half'], 'a'),
    node('Reshape', ['pb', 'half'], 'b'),
    node('Reshape', ['evenFlat', 'indices'], 'even'),
    node('Reshape', ['oddFlat', 'indices'], 'odd'),
    node('ScatterND', ['scratch', 'even', 'a'], 's'),
    node('ScatterND', ['s', 'odd', 'b'], 't'),
    node('Reshape', ['t', 'flat'], 'r'),
    node('MatMul', ['r', 'wo'], 'y'),
  ],
  outputs: ['y'],
};

/** Rows 2 to 4 of a batch's second entry, of 5, are written; the others stay. */
const middle: SmallModel = {
  inputs: { x: [2, 5, 24] },
  weights: { w: [24, 36], v: [24, 36], wo: [36, 24] },
  ints: {
    flatIndices: tuples([1], [2, 3, 4]),
    indices: [1, 3, 2],
    zero: [1],
    one: [2],
    axis: [0],
    from: [2],
    to: [5],
    tokens: [1],
  },
  nodes: [
    node('MatMul', ['x', 'w'], 'p'),
    node('MatMul', ['x', 'v'], 'q'),
    node('Slice', ['q', 'zero', 'one', 'axis'], 'q1'),
    node('Slice', ['q1', 'from', 'to', 'tokens'], 'q2'),
    node('Reshape', ['flatIndices', 'indices'], 'i'),
    node('ScatterND', ['p', 'i', 'q2'], 's'),
    node('MatMul', ['s', 'wo'], 'y'),
  ],
  outputs: ['y'],
};

/** Places 1 and 3 of an axis of 5 are no slice, and an addition is no write. */
const scattered: SmallModel = {
  ...middle,
  ints: { ...middle.ints, flatIndices: tuples([1], [0, 2, 4]) },
};

const elements: SmallModel = {
  inputs: { x: [3, 24] },
  weights: { w: [24, 36], v: [24, 36], wo: [36, 24] },
  ints: { flatIndices: range(72).map((i) => (i < 36 ? 1 : 2)), indices: [2, 36], from: [0], to: [2], axis: [0] },
  nodes: [
    node('MatMul', ['x', 'w'], 'p'),
    node('MatMul', ['x', 'v'], 'q'),
    node('Slice', ['q', 'from', 'to', 'axis'], 'u'),
    node('Reshape', ['flatIndices', 'indices'], 'i'),
    node('ScatterElements', ['p', 'i', 'u'], 's', intAttribute('axis', 0)),
    node('MatMul', ['s', 'wo'], 'y'),
  ],
  outputs: ['y'],
};

const opsOf = (model: SmallModel): Promise<readonly string[]> =>
  inDirectory(async (directory) => (await readGraph(writeSmallModel(directory, model))).nodes.map(({ op }) => op));

it.each([
  ['to even and to odd places', rotary],
  ['in the middle of two axes', middle],
  ['of whole rows by element', elements],
])('unrolls a write %s', async (_, model) => {
  expect((await opsOf(model)).filter((op) => op.startsWith('Scatter'))).toEqual([]);
  const { error } = await runSmallModel(model, [2, 1, 1]);
  expect(error).toBeLessThan(1e-5);
});

it('reads nothing of a tensor that is overwritten wholly', async () => {
  const names = await inDirectory(async (directory) =>
    (await readGraph(writeSmallModel(join(directory), rotary))).nodes.flatMap(({ inputs }) =>
      inputs.map((one) => one?.name),
    ),
  );
  expect(names).toContain('wo');
  expect(names).not.toContain('scratch');
});

it('leaves a write to places that are no slice, and one that adds', async () => {
  expect(await opsOf(scattered)).toContain('ScatterND');
  const adding = {
    ...middle,
    nodes: middle.nodes.map((one) =>
      one.op === 'ScatterND' ? { ...one, attributes: [stringAttribute('reduction', 'add')] } : one,
    ),
  };
  expect(await opsOf(adding)).toContain('ScatterND');
  for (const model of [scattered, adding]) expect((await runSmallModel(model, [1, 1])).error).toBeLessThan(1e-5);
});
