/** The modules that a plan is told in. */
import { beforeAll, describe, expect, it } from 'vitest';
import { makeBlocks, type PlanBlock } from '#tandem/partition/decide/blocks.js';
import { findScopes } from '#tandem/partition/graph/scopes.js';
import { createGraph, createModel, createNode, type ModelProto } from '#tandem/partition/onnx/index.js';
import { node, writeSmallModel } from '../small-model.js';
import { inDirectory, planGraph, readFixture, readGraph } from '../stages.js';

const NO_METADATA = createModel({});

const planOf = async (name: string, count: number) => {
  const graph = await readFixture(name);
  return { ...planGraph(graph, new Array<number>(count).fill(1)), graph };
};

const blocksIn = ({ graph, ...planned }: Awaited<ReturnType<typeof planOf>>): readonly PlanBlock[] =>
  makeBlocks({ ...planned, graph, scopes: findScopes(graph, NO_METADATA) });

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

describe.each(['tiny-ts17', 'tiny-dynamo18'])('the blocks of %s', (name) => {
  let planned: Awaited<ReturnType<typeof planOf>>;
  let blocks: readonly PlanBlock[];
  beforeAll(async () => {
    planned = await planOf(name, 2);
    blocks = blocksIn(planned);
  });

  it('are the modules in the order in which they run, with at most one round of exchanges each', () => {
    const outer = [...new Set(blocks.map(({ scope }) => scope[0]))].filter((part) => /block|conv/.test(part ?? ''));
    expect(outer.slice(0, 3)).toEqual(['conv_in', 'down_blocks.0', 'down_blocks.1']);
    expect(outer.indexOf('mid_block')).toBeLessThan(outer.indexOf('up_blocks.0'));
    expect(outer.at(-1)).toMatch(/^conv_(norm_)?out$/);
    expect(blocks.some(({ scope }) => scope[1] === 'resnets.0')).toBe(true);
  });

  it('hold all the work and every exchange once', () => {
    expect(sum(blocks.map(({ flop_fraction }) => flop_fraction))).toBeCloseTo(1, 6);
    for (const block of blocks) {
      expect(sum(block.work.map(({ flop_fraction }) => flop_fraction))).toBeCloseTo(block.flop_fraction, 9);
    }
    const exchanged = blocks.flatMap(({ exchanges }) => exchanges);
    expect(exchanged.sort()).toEqual(planned.cut.collectives.map(({ value }) => value.name).sort());
  });
});

it('stay closed on one device, where nothing is exchanged', async () => {
  const blocks = blocksIn(await planOf('tiny-ts17', 1));
  expect(blocks.every(({ scope }) => scope.length === 1)).toBe(true);
  expect(blocks.flatMap(({ exchanges }) => exchanges)).toEqual([]);
});

const UNNAMED = {
  inputs: { x: [3, 64] },
  weights: { w1: [64, 256], w2: [256, 64], w3: [64, 256], w4: [256, 64] },
  nodes: [
    node('MatMul', ['x', 'w1'], 'a'),
    node('Relu', ['a'], 'b'),
    node('MatMul', ['b', 'w2'], 'c'),
    node('MatMul', ['c', 'w3'], 'd'),
    node('Relu', ['d'], 'e'),
    node('MatMul', ['e', 'w4'], 'y'),
  ],
  outputs: ['y'],
};

/** A model as dynamo's exporter names its nodes and describes them. */
const described = (scopes: Readonly<Record<string, string>>): ModelProto =>
  createModel({
    graph: createGraph({
      node: Object.entries(scopes).map(([name, value]) =>
        createNode({ name, opType: 'MatMul', metadataProps: [{ key: 'pkg.torch.onnx.name_scopes', value }] }),
      ),
    }),
  });

it('are the stretches between exchanges where the exporter left no names', async () => {
  const graph = await inDirectory((directory) => readGraph(writeSmallModel(directory, UNNAMED)));
  const planned = planGraph(graph, [1, 1]);
  const blocks = makeBlocks({ ...planned, graph, scopes: findScopes(graph, NO_METADATA) });
  expect(blocks.map(({ scope }) => scope)).toEqual(
    Array.from({ length: blocks.length }, (_, segment) => [`segment ${segment}`]),
  );
});

it("are read from dynamo's metadata where it is there", async () => {
  const graph = await inDirectory((directory) => readGraph(writeSmallModel(directory, UNNAMED)));
  const [first = '', , third = ''] = graph.nodes.map(({ name }) => name);
  const scopes = findScopes(
    graph,
    described({
      [first]: "['', 'net', 'net.layers', 'net.layers.0', 'matmul']",
      [third]: "['', 'net', 'net.layers', 'net.layers.11', 'matmul_1']",
    }),
  );
  const found = graph.nodes.map((one) => scopes.get(one));
  expect(found.slice(0, 3)).toEqual([['layers.0'], ['layers.0'], ['layers.11']]);
});
