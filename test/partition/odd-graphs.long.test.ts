/** Graphs that exporters and optimisers do write now and then: split, they still give what they give whole. */
import { expect, it } from 'vitest';
import { floatAttribute, intAttribute, intsAttribute, stringAttribute } from '#tandem/partition/onnx/index.js';
import { node, runSmallModel, type SmallModel, weightBytes } from './small-model.js';

/** Two products with a Relu between them: column-parallel, then row-parallel. */
const MLP: SmallModel = {
  inputs: { x: [3, 16] },
  weights: { w1: [16, 36], b1: [36], w2: [36, 20], b2: [20] },
  nodes: [node('Gemm', ['x', 'w1', 'b1'], 'h'), node('Relu', ['h'], 'r'), node('Gemm', ['r', 'w2', 'b2'], 'y')],
  outputs: ['y'],
};

const CASES: Readonly<Record<string, SmallModel>> = {
  'two products': MLP,
  'an output that is an input too': { ...MLP, outputs: ['y', 'x'] },
  'an output that is a constant': { ...MLP, outputs: ['y', 'b2'] },
  'an output that is a large constant': { ...MLP, outputs: ['y', 'w1'] },
  'an output that is computed from constants': {
    ...MLP,
    nodes: [...MLP.nodes, node('Neg', ['w1'], 'c')],
    outputs: ['y', 'c'],
  },
  'an output that is read by later nodes': { ...MLP, outputs: ['h', 'y'] },
  'an output that is partial when it is made, and read later': {
    ...MLP,
    nodes: [...MLP.nodes, node('Relu', ['y'], 'z')],
    outputs: ['y', 'z'],
  },
  'one tensor as two outputs': { ...MLP, nodes: [...MLP.nodes, node('Identity', ['y'], 'z')], outputs: ['y', 'z'] },
  'a weight under several names': {
    ...MLP,
    nodes: [
      node('Identity', ['w1'], 'alias'),
      node('Identity', ['alias'], 'alias2'),
      node('Gemm', ['x', 'alias', 'b1'], 'h'),
      node('Gemm', ['x', 'alias2', 'b1'], 'h2'),
      node('Mul', ['h', 'h2'], 'r'),
      node('Gemm', ['r', 'w2', 'b2'], 'y'),
    ],
  },
  'a weight that is read as it is and transposed': {
    inputs: { x: [3, 24] },
    weights: { w: [24, 36] },
    nodes: [
      node('MatMul', ['x', 'w'], 'h'),
      node('Relu', ['h'], 'r'),
      node('Transpose', ['w'], 'wt', intsAttribute('perm', [1, 0])),
      node('MatMul', ['r', 'wt'], 'y'),
    ],
    outputs: ['y'],
  },
  'initializers that are inputs as well': { ...MLP, irVersion: 3, declared: ['w1', 'b1', 'w2', 'b2'] },
  'a bias that is scaled': {
    ...MLP,
    nodes: [
      node('Gemm', ['x', 'w1', 'b1'], 'h', floatAttribute('beta', 0.5), floatAttribute('alpha', 2)),
      ...MLP.nodes.slice(1),
    ],
  },
  'an old softmax without its axis': {
    inputs: { x: [2, 16, 5] },
    weights: { w1: [36, 16], w2: [20, 36] },
    nodes: [node('MatMul', ['w1', 'x'], 'h'), node('Softmax', ['h'], 's'), node('MatMul', ['w2', 's'], 'y')],
    outputs: ['y'],
    opset: 11,
  },
  'a product added to itself': {
    ...MLP,
    nodes: [...MLP.nodes.slice(0, 2), node('MatMul', ['r', 'w2'], 'p'), node('Add', ['p', 'p'], 'y')],
  },
  'a product squared': {
    ...MLP,
    nodes: [...MLP.nodes.slice(0, 2), node('MatMul', ['r', 'w2'], 'p'), node('Mul', ['p', 'p'], 'y')],
  },
  'a product joined with itself': {
    ...MLP,
    nodes: [
      ...MLP.nodes.slice(0, 2),
      node('Concat', ['r', 'r'], 'rr', intAttribute('axis', 0)),
      node('MatMul', ['rr', 'w2'], 'y'),
    ],
  },
  'a gate of two halves': {
    inputs: { x: [3, 16] },
    weights: { w1: [16, 72], b1: [72], w2: [36, 20] },
    ints: { zero: [0], half: [36], end: [72], last: [1] },
    nodes: [
      node('Gemm', ['x', 'w1', 'b1'], 'h'),
      node('Slice', ['h', 'zero', 'half', 'last'], 'a'),
      node('Slice', ['h', 'half', 'end', 'last'], 'g'),
      node('Sigmoid', ['g'], 's'),
      node('Mul', ['a', 's'], 'r'),
      node('MatMul', ['r', 'w2'], 'y'),
    ],
    outputs: ['y'],
  },
  'a norm whose groups straddle the seam of a skip': {
    inputs: { x: [1, 8, 6, 6], skip: [1, 4, 6, 6] },
    weights: { w1: [8, 8, 3, 3], scale: [3], bias: [3], w2: [12, 12, 3, 3] },
    ints: { groups: [0, 3, -1], back: [1, 12, 6, 6] },
    nodes: [
      node('Conv', ['x', 'w1'], 'h', intsAttribute('pads', [1, 1, 1, 1])),
      node('Concat', ['h', 'skip'], 'c', intAttribute('axis', 1)),
      node('Reshape', ['c', 'groups'], 'g'),
      node('InstanceNormalization', ['g', 'scale', 'bias'], 'n'),
      node('Reshape', ['n', 'back'], 'r'),
      node('Conv', ['r', 'w2'], 'y', intsAttribute('pads', [1, 1, 1, 1])),
    ],
    outputs: ['y'],
  },
  'an operator without a rule between two products': {
    ...MLP,
    nodes: [
      MLP.nodes[0] ?? node('Gemm', [], ''),
      node('Hardmax', ['h'], 'r', intAttribute('axis', 0)),
      ...MLP.nodes.slice(2),
    ],
  },
  'an operator with a subgraph-free string attribute': {
    inputs: { x: [3, 16] },
    weights: { w1: [16, 36], w2: [36, 20] },
    nodes: [
      node('Einsum', ['x', 'w1'], 'h', stringAttribute('equation', 'ij,jk->ik')),
      node('Gelu', ['h'], 'g', stringAttribute('approximate', 'tanh')),
      node('Einsum', ['g', 'w2'], 'y', stringAttribute('equation', 'ij,jk->ik')),
    ],
    outputs: ['y'],
    opset: 20,
  },
};

it.each(Object.entries(CASES))('gives on three unlike devices what it gives whole: %s', async (_, model) => {
  const split = await runSmallModel(model, [2, 1, 1]);
  expect(split.error).toBeLessThan(1e-5);
  expect(split.weightBytes, 'the weights are split').toBeLessThan(weightBytes(model));
});
