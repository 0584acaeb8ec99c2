/** Operators that multiply and sum: the bulk of the work, and the ones whose weights are split. */

import { elementCount } from '../../common/tensor.js';
import { intAttribute, type Node, stringAttribute, type Value } from '../graph/graph.js';
import type { Table } from './registry.js';
import { type LocalEdit, type LocalShapes, shapeOf } from './rule.js';
import { broadcastFactors, type Factors, numbered, rule, type Signature } from './signature.js';
import { byRows } from './window.js';

/** `[..., m, k] x [..., k, n] -> [..., m, n]`; a 1-D operand lacks `m` or `n`. */
const matMul = (node: Node, transA = false, transB = false): Signature => {
  const [a, b] = [shapeOf(node.inputs[0]), shapeOf(node.inputs[1])];
  const output = shapeOf(node.outputs[0]);
  const matrixAxes = (a.length > 1 ? 1 : 0) + (b.length > 1 ? 1 : 0);
  const batchShape = output.slice(0, output.length - matrixAxes);
  const batch = numbered('b', batchShape.length);
  const left = a.length === 1 ? ['k'] : transA ? ['k', 'm'] : ['m', 'k'];
  const right = b.length === 1 ? ['k'] : transB ? ['n', 'k'] : ['k', 'n'];
  return {
    inputs: [
      [...broadcastFactors(a.slice(0, -2), batchShape, batch), ...left],
      [...broadcastFactors(b.slice(0, -2), batchShape, batch), ...right],
    ],
    outputs: [[...batch, ...(a.length > 1 ? ['m'] : []), ...(b.length > 1 ? ['n'] : [])]],
    summed: ['k'],
    seeds: ['n', 'k', 'm', ...batch],
  };
};

const gemm = (node: Node): Signature => {
  const transA = intAttribute(node, 'transA', 0) !== 0;
  const transB = intAttribute(node, 'transB', 0) !== 0;
  const product = matMul(node, transA, transB);
  const addend = node.inputs[2];
  if (!addend) return product;
  // The addend would be counted once per rank; `canonicalise` takes it out wherever it can.
  const factors = broadcastFactors(shapeOf(addend), shapeOf(node.outputs[0]), ['m', 'n']);
  const withoutK = product.inputs.map((operand) => operand.map((factor) => (factor === 'k' ? null : factor)));
  return { inputs: [...withoutK, factors], outputs: product.outputs, seeds: ['n', 'm'] };
};

/** MatMul with transposed operands and a scale; batch axes that are transposed too are left whole. */
const fusedMatMul = (node: Node): Signature | undefined => {
  const flag = (name: string) => intAttribute(node, name, 0) !== 0;
  return flag('transBatchA') || flag('transBatchB') ? undefined : matMul(node, flag('transA'), flag('transB'));
};

const matMulFlops = (node: Node): number => {
  const a = shapeOf(node.inputs[0]);
  const k = intAttribute(node, 'transA', 0) ? (a.at(-2) ?? 1) : (a.at(-1) ?? 1);
  return 2 * k * elementCount(shapeOf(node.outputs[0]));
};

const isPointwiseConv = (node: Node, kernel: readonly number[]): boolean => {
  const all = (name: string, wanted: bigint) =>
    (node.attributes.get(name)?.ints ?? []).every((value) => value === wanted);
  return kernel.every((size) => size === 1) && all('strides', 1n) && all('pads', 0n);
};

const conv = (node: Node): Signature => {
  const weight = shapeOf(node.inputs[1]);
  const group = intAttribute(node, 'group', 1);
  const kernel = weight.slice(2);
  const spatial = isPointwiseConv(node, kernel) ? numbered('s', kernel.length) : kernel.map(() => null);
  const window = kernel.map(() => null);
  const bias = node.inputs[2] ? 'o' : undefined;
  if (group > 1) {
    return {
      inputs: [['n', 'g', ...spatial], ['g', null, ...window], ...(bias ? [['g']] : [])],
      outputs: [['n', 'g', ...spatial]],
      units: { g: group },
      seeds: ['g'],
    };
  }
  return {
    inputs: [['n', bias ? null : 'c', ...spatial], ['o', bias ? null : 'c', ...window], ...(bias ? [['o']] : [])],
    outputs: [['n', 'o', ...spatial]],
    summed: ['c'],
    seeds: [...(bias ? ['o'] : ['o', 'c']), 'n', ...spatial.flatMap((factor) => factor ?? [])],
  };
};

/** Like `conv`, but the weight is `[in channels, out channels / group, ...kernel]`. */
const convTranspose = (node: Node): Signature => {
  const group = intAttribute(node, 'group', 1);
  const window = shapeOf(node.inputs[1])
    .slice(2)
    .map(() => null);
  const bias = node.inputs[2] !== undefined;
  if (group > 1) {
    return {
      inputs: [['n', 'g', ...window], ['g', null, ...window], ...(bias ? [['g']] : [])],
      outputs: [['n', 'g', ...window]],
      units: { g: group },
      seeds: ['g'],
    };
  }
  return {
    inputs: [['n', bias ? null : 'c', ...window], [bias ? null : 'c', 'o', ...window], ...(bias ? [['o']] : [])],
    outputs: [['n', 'o', ...window]],
    summed: ['c'],
    seeds: bias ? ['o'] : ['o', 'c'],
  };
};

const convFlops = (node: Node): number =>
  2 * elementCount(shapeOf(node.inputs[1]).slice(1)) * elementCount(shapeOf(node.outputs[0]));

const convTransposeFlops = (node: Node): number =>
  2 * elementCount(shapeOf(node.inputs[1]).slice(1)) * elementCount(shapeOf(node.inputs[0]));

/** The number of groups that a rank has, where it has a part of the channels. */
const localGroups = (node: Node, local: LocalShapes): LocalEdit => {
  const group = intAttribute(node, 'group', 1);
  const channels = shapeOf(node.inputs[0])[1] ?? 1;
  return group === 1 ? {} : { ints: { group: (group * (local.inputs[0]?.[1] ?? channels)) / channels } };
};

/** A term's factors; an ellipsis stands for the axes that it leaves over, numbered from the last one so that they line up. */
const termFactors = (term: string, rank: number): readonly string[] => {
  const [before = '', after] = term.split('...');
  if (after === undefined) return [...term];
  const count = rank - before.length - after.length;
  return [...before, ...Array.from({ length: count }, (_, i) => `.${count - i}`), ...after];
};

/** Without a result, the letters that stand once, in the alphabet's order, behind the ellipsis. */
const implicitResult = (left: string): string => {
  const letters = [...left].filter((letter) => /[a-z]/i.test(letter));
  const once = letters.filter((letter) => letters.indexOf(letter) === letters.lastIndexOf(letter));
  return (left.includes('...') ? '...' : '') + once.sort().join('');
};

/** The equation is the signature. An axis of size 1 is for all of the others'; repeated letters are left whole. */
const einsum = (node: Node): Signature | undefined => {
  const [left = '', right = implicitResult(left)] = stringAttribute(node, 'equation', '')
    .replaceAll(' ', '')
    .split('->');
  const inputs = left.split(',').map((term, i) => termFactors(term, shapeOf(node.inputs[i]).length));
  const output = termFactors(right, shapeOf(node.outputs[0]).length);
  const factors = [...new Set(inputs.flat())];
  const wide = (term: readonly string[], value: Value | undefined): Factors =>
    term.map((factor, axis) => (shapeOf(value)[axis] === 1 ? null : factor));
  return {
    inputs: inputs.map((term, i) => wide(term, node.inputs[i])),
    outputs: [wide(output, node.outputs[0])],
    summed: factors.filter((factor) => !output.includes(factor)),
    seeds: factors,
  };
};

const einsumFlops = (node: Node): number => {
  const signature = einsum(node);
  const sizes = new Map<string, number>();
  signature?.inputs.forEach((factors, i) => {
    factors.forEach((factor, axis) => {
      if (factor) sizes.set(factor, shapeOf(node.inputs[i])[axis] ?? 1);
    });
  });
  return 2 * elementCount([...sizes.values()]);
};

const eitherInput = () => [[0], [1]];
const eachInput = (node: Node) => node.inputs.map((_, i) => [i]);
const withoutAddend = (node: Node) => (node.inputs[2] ? [] : [[0], [1]]);

const isTensor = (value: Value | undefined): boolean => value !== undefined && value.constant === undefined;

/** A product with weights is another thing than one of two activations. */
const PRODUCT = {
  cost: ({ inputs }: Node) => (isTensor(inputs[0]) && isTensor(inputs[1]) ? 'attention' : 'matmul'),
  isProduct: true,
  flops: matMulFlops,
} as const;
const CONVOLUTION = { cost: 'conv', isProduct: true, linear: withoutAddend } as const;

export const CONTRACTION = {
  MatMul: rule({ ...PRODUCT, signature: (node) => matMul(node), linear: eitherInput }),
  'com.microsoft::FusedMatMul': rule({ ...PRODUCT, signature: fusedMatMul, linear: eitherInput }),
  Gemm: rule({ ...PRODUCT, signature: gemm, linear: withoutAddend }),
  Conv: byRows(rule({ ...CONVOLUTION, signature: conv, flops: convFlops, localise: localGroups }), (node) =>
    shapeOf(node.inputs[1]).slice(2),
  ),
  ConvTranspose: rule({ ...CONVOLUTION, signature: convTranspose, flops: convTransposeFlops, localise: localGroups }),
  Einsum: rule({ ...PRODUCT, signature: einsum, linear: eachInput, flops: einsumFlops }),
} satisfies Table;
