import { describe, expect, it } from 'vitest';
import type { Graph, Node } from '#tandem/partition/graph/graph.js';
import { placementKey, REPLICATE } from '#tandem/partition/graph/placement.js';
import { intAttribute, intsAttribute } from '#tandem/partition/onnx/index.js';
import { findConstants, place, whyWhole } from '#tandem/partition/plan/states.js';
import type { Row } from '#tandem/partition/rules/rule.js';
import { node, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory, readFixture, readGraph, TINY_EXPORTS } from './stages.js';

const EVEN = { speeds: [1, 1] };

const graphOf = (model: SmallModel): Promise<Graph> =>
  inDirectory((directory) => readGraph(writeSmallModel(directory, model)));

const find = (graph: Graph, op: string, index = 0): Node => {
  const found = graph.nodes.filter((candidate) => candidate.op === op)[index];
  if (found) return found;
  throw new Error(`There is no ${op} number ${index}.`);
};

const describeRows = (rows: readonly Row[] | undefined): readonly string[] =>
  (rows ?? []).map((row) => `${row.inputs.map(placementKey).join(' ')} -> ${row.outputs.map(placementKey).join(' ')}`);

/** Two products with a Relu between them. */
const MLP: SmallModel = {
  inputs: { x: [3, 16] },
  weights: { w1: [16, 36], w2: [36, 20] },
  nodes: [node('MatMul', ['x', 'w1'], 'h'), node('Relu', ['h'], 'r'), node('MatMul', ['r', 'w2'], 'y')],
  outputs: ['y'],
};

describe('the rows of two products with a Relu between them', () => {
  it('split the first weight by columns and the second by rows', async () => {
    const graph = await graphOf(MLP);
    const { rows } = place(graph, EVEN);
    expect(describeRows(rows.get(find(graph, 'MatMul', 0)))).toContain('R S1:0,18,36 -> S1:0,18,36');
    expect(describeRows(rows.get(find(graph, 'MatMul', 1)))).toContain('S1:0,18,36 S0:0,18,36 -> P');
  });

  it('carry a split through the Relu, and never a partial sum', async () => {
    const graph = await graphOf(MLP);
    const rows = describeRows(place(graph, EVEN).rows.get(find(graph, 'Relu')));
    expect(rows).toContain('S1:0,18,36 -> S1:0,18,36');
    expect(rows.filter((row) => row.includes('P'))).toEqual([]);
  });

  it('begin with the whole node', async () => {
    const graph = await graphOf(MLP);
    for (const [{ inputs }, rows] of place(graph, EVEN).rows) {
      expect(rows[0]?.inputs).toEqual(inputs.map(() => REPLICATE));
    }
  });

  it('are in proportion to the speeds', async () => {
    const graph = await graphOf(MLP);
    const { rows } = place(graph, { speeds: [2, 1] });
    expect(describeRows(rows.get(find(graph, 'Relu')))).toContain('S1:0,24,36 -> S1:0,24,36');
  });

  it('are whole on one device', async () => {
    const graph = await graphOf(MLP);
    for (const rows of place(graph, { speeds: [1] }).rows.values()) expect(rows).toHaveLength(1);
  });
});

it('finds the sizes of heads by itself and brings them to the weights', async () => {
  const graph = await graphOf({
    inputs: { x: [2, 5, 16] },
    weights: { w: [16, 30], v: [30, 16] },
    ints: { heads: [2, 5, 3, 10], joined: [2, 5, 30] },
    nodes: [
      node('MatMul', ['x', 'w'], 'q'),
      node('Reshape', ['q', 'heads'], 'h'),
      node('Transpose', ['h'], 't', intsAttribute('perm', [0, 2, 1, 3])),
      node('Softmax', ['t'], 's', intAttribute('axis', -1)),
      node('Transpose', ['s'], 'u', intsAttribute('perm', [0, 2, 1, 3])),
      node('Reshape', ['u', 'joined'], 'j'),
      node('MatMul', ['j', 'v'], 'y'),
    ],
    outputs: ['y'],
  });
  const { rows } = place(graph, EVEN);
  expect(describeRows(rows.get(find(graph, 'MatMul', 0)))).toContain('R S1:0,20,30 -> S2:0,20,30');
  expect(describeRows(rows.get(find(graph, 'Softmax')))).toContain('S1:0,2,3 -> S1:0,2,3');
  expect(describeRows(rows.get(find(graph, 'MatMul', 1)))).toContain('S2:0,20,30 S0:0,20,30 -> P');
});

it('splits a fused projection piece by piece', async () => {
  const graph = await graphOf({
    inputs: { x: [3, 16] },
    weights: { w: [16, 60], v: [20, 16] },
    nodes: [
      node('MatMul', ['x', 'w'], 'qkv'),
      { op: 'Split', inputs: ['qkv'], outputs: ['q', 'k', 'v0'], attributes: [intAttribute('axis', -1)] },
      node('Mul', ['q', 'k'], 'm'),
      node('Add', ['m', 'v0'], 'a'),
      node('MatMul', ['a', 'v'], 'y'),
    ],
    outputs: ['y'],
  });
  const rows = describeRows(place(graph, EVEN).rows.get(find(graph, 'MatMul', 0)));
  expect(rows).toContain('R S1:0,10,20|0,10,20|0,10,20 -> S1:0,10,20|0,10,20|0,10,20');
});

it('takes what depends on weights alone for constant, but not what the model gives out', async () => {
  const graph = await graphOf({
    ...MLP,
    nodes: [
      node('Transpose', ['w2'], 't'),
      node('Neg', ['w1'], 'n'),
      ...MLP.nodes.slice(0, 2),
      node('Gemm', ['r', 't'], 'y', intAttribute('transB', 1)),
    ],
    outputs: ['y', 'n'],
  });
  const names = [...findConstants(graph)].map(({ name }) => name);
  expect(names).toEqual(['t']);
});

it('gives a node without a rule one row, and says that it has no rule', async () => {
  const graph = await graphOf({
    ...MLP,
    nodes: [
      MLP.nodes[0] ?? node('MatMul', [], ''),
      node('Hardmax', ['h'], 'r'),
      MLP.nodes[2] ?? node('MatMul', [], ''),
    ],
  });
  const hardmax = find(graph, 'Hardmax');
  const rows = place(graph, EVEN).rows.get(hardmax) ?? [];
  expect(rows).toHaveLength(1);
  expect(whyWhole(hardmax, rows)).toMatch(/^no rule for operator Hardmax: ./);
});

it.each(TINY_EXPORTS)(
  'keeps the number of rows small in %s, for splits do not spread from weight to weight',
  async (name, dims) => {
    const graph = await readFixture(name, dims);
    for (const speeds of [
      [1, 1],
      [2, 1, 1],
    ]) {
      const counts = [...place(graph, { speeds }).rows.values()].map((rows) => rows.length);
      expect(Math.max(...counts)).toBeLessThanOrEqual(12);
    }
  },
);

it('combines nested cuts: a projection cut in two, and its parts in three and in two', async () => {
  const graph = await graphOf({
    inputs: { x: [4, 32] },
    weights: { w: [32, 192], v: [36, 32], u: [42, 32] },
    ints: { halves: [108, 84], thirds: [36, 36, 36], pair: [42, 42] },
    nodes: [
      node('MatMul', ['x', 'w'], 'fused'),
      { op: 'Split', inputs: ['fused', 'halves'], outputs: ['qkv', 'mlp'], attributes: [intAttribute('axis', 1)] },
      { op: 'Split', inputs: ['qkv', 'thirds'], outputs: ['q', 'k', 'v0'], attributes: [intAttribute('axis', 1)] },
      { op: 'Split', inputs: ['mlp', 'pair'], outputs: ['a', 'b'], attributes: [intAttribute('axis', 1)] },
      node('Mul', ['q', 'k'], 'qk'),
      node('Mul', ['qk', 'v0'], 'attended'),
      node('Mul', ['a', 'b'], 'gated'),
      node('MatMul', ['attended', 'v'], 'y0'),
      node('MatMul', ['gated', 'u'], 'y1'),
      node('Add', ['y0', 'y1'], 'y'),
    ],
    outputs: ['y'],
  });
  const rows = describeRows(place(graph, EVEN).rows.get(find(graph, 'MatMul', 0)));
  expect(rows).toContain('R S1:0,18,36|0,18,36|0,18,36|0,21,42|0,21,42 -> S1:0,18,36|0,18,36|0,18,36|0,21,42|0,21,42');
});
