import { expect, it } from 'vitest';
import { canonicalise } from '#tandem/partition/clean/canonicalise.js';
import { fold } from '#tandem/partition/clean/fold.js';
import { findUses, type Graph, intAttribute, type Node } from '#tandem/partition/graph/graph.js';
import { floatAttribute, intsAttribute, intAttribute as makeInt } from '#tandem/partition/onnx/index.js';
import { readModel } from '#tandem/partition/read/index.js';
import { node, type SmallModel, writeSmallModel } from './small-model.js';
import { countSums, inDirectory, planGraph, readFixture } from './stages.js';

const canonical = (model: SmallModel): Promise<Graph> =>
  inDirectory(async (directory) => {
    const source = await readModel(writeSmallModel(directory, model), { requireWeights: false });
    return canonicalise(await fold(source, {}));
  });

const opsOf = ({ nodes }: Graph): readonly string[] => nodes.map(({ op }) => op);

const PADS = intsAttribute('pads', [1, 1, 1, 1]);

/** A resnet's tail: a convolution and a shortcut convolution, both with a bias, added up. */
const TAIL: SmallModel = {
  inputs: { x: [1, 16, 6, 6] },
  weights: { w1: [32, 16, 3, 3], b1: [32], w2: [24, 32, 3, 3], b2: [24], ws: [24, 16, 1, 1], bs: [24] },
  nodes: [
    node('Conv', ['x', 'w1', 'b1'], 'h', PADS),
    node('Relu', ['h'], 'r'),
    node('Relu', ['x'], 's'),
    node('Conv', ['r', 'w2', 'b2'], 'main', PADS),
    node('Conv', ['s', 'ws', 'bs'], 'shortcut'),
    node('Add', ['main', 'shortcut'], 'y'),
  ],
  outputs: ['y'],
};

it('takes the bias out of a convolution, shaped to be added to its channels', async () => {
  const graph = await canonical(TAIL);
  const convolutions = graph.nodes.filter(({ op }) => op === 'Conv');
  expect(convolutions.map(({ inputs }) => inputs.length)).toEqual([2, 2, 2]);
  const { consumers } = findUses(graph);
  const [first] = convolutions;
  const [product] = first?.outputs ?? [];
  const [add] = product ? (consumers.get(product) ?? []) : [];
  expect(add?.op).toBe('Add');
  expect(add?.inputs[1]?.shape).toEqual([32, 1, 1]);
});

it('takes the bias out of a Gemm, unless it is scaled', async () => {
  const gemm = (...attributes: Node['attributes'] extends ReadonlyMap<string, infer A> ? A[] : never): SmallModel => ({
    inputs: { x: [3, 16] },
    weights: { w: [16, 36], b: [36] },
    nodes: [node('Gemm', ['x', 'w', 'b'], 'y', ...attributes)],
    outputs: ['y'],
  });
  expect(opsOf(await canonical(gemm()))).toEqual(['Gemm', 'Add']);
  expect(opsOf(await canonical(gemm(floatAttribute('beta', 0.5))))).toEqual(['Gemm']);
});

it('adds the products of a sum first', async () => {
  const graph = await canonical(TAIL);
  const { producer } = findUses(graph);
  const sum = graph.nodes.find(({ inputs }) => inputs.every((value) => value && producer.get(value)?.op === 'Conv'));
  expect(sum?.op).toBe('Add');
  expect(graph.outputs.map(({ name }) => name)).toEqual(['y']);
});

it('lets a convolution and its shortcut share one sum over the ranks', async () => {
  const { cut } = planGraph(await canonical(TAIL), [1, 1]);
  expect(countSums(cut)).toBe(1);
});

it('leaves a sum that something else reads as it is', async () => {
  const graph = await canonical({
    ...TAIL,
    nodes: [...TAIL.nodes, node('Add', ['y', 'shortcut'], 'z')],
    outputs: ['y', 'z'],
  });
  expect(graph.outputs.map(({ name }) => name)).toEqual(['y', 'z']);
  const { producer } = findUses(graph);
  for (const output of graph.outputs) expect(producer.get(output)?.op).toBe('Add');
});

it('writes down the axis that softmax had by default before opset 13', async () => {
  const softmax = (opset: number): SmallModel => ({
    inputs: { x: [2, 3, 4] },
    nodes: [node('Softmax', ['x'], 'y')],
    outputs: ['y'],
    opset,
  });
  const axisOf = async (opset: number) => {
    const [only] = (await canonical(softmax(opset))).nodes;
    return only && intAttribute(only, 'axis', -1);
  };
  expect(await axisOf(11)).toBe(1);
  expect(await axisOf(13)).toBe(-1);
});

it('makes a node’s result of a constant that the model gives out', async () => {
  const graph = await canonical({ ...TAIL, outputs: ['y', 'b2'] });
  const { producer } = findUses(graph);
  expect(graph.outputs.map((output) => producer.get(output)?.op)).toEqual(['Add', 'Identity']);
  expect(graph.outputs.every(({ constant }) => constant === undefined)).toBe(true);
});

it('keeps every value’s maker before its readers in a real export', async () => {
  const graph = await readFixture('tiny-dynamo18');
  const known = new Set(graph.inputs);
  for (const { name, inputs, outputs } of graph.nodes) {
    for (const input of inputs)
      if (input && !input.constant) expect(known.has(input), `${name} reads ${input.name}`).toBe(true);
    for (const output of outputs) if (output) known.add(output);
  }
  expect(new Set(graph.nodes.flatMap(({ outputs }) => outputs.map((output) => output?.name))).size).toBe(
    graph.nodes.flatMap(({ outputs }) => outputs).length,
  );
});

it('gathers products also where they are transposed and reshaped before they are added', async () => {
  const graph = await canonical({
    inputs: { x: [3, 16], other: [36, 3] },
    weights: { w: [16, 36], b: [36, 1], v: [3, 3] },
    nodes: [
      node('MatMul', ['x', 'w'], 'p'),
      node('Transpose', ['p'], 't', intsAttribute('perm', [1, 0])),
      node('Add', ['t', 'b'], 'tb'),
      node('MatMul', ['other', 'v'], 'q'),
      node('Add', ['tb', 'q'], 's'),
      node('Softmax', ['s'], 'y', makeInt('axis', -1)),
    ],
    outputs: ['y'],
  });
  const { producer } = findUses(graph);
  const first = graph.nodes.find(({ op }) => op === 'Add');
  expect(first?.inputs.map((value) => value && producer.get(value)?.op)).toEqual(['Transpose', 'MatMul']);
});
