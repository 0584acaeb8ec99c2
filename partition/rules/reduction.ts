/** Operators that combine elements along some axes: softmax, norms, means and pooling. The combined axes must be whole. */

import { elementCount } from '../../common/tensor.js';
import { constantInts, intAttribute, intsAttribute, type Node, normaliseAxis } from '../graph/graph.js';
import type { Table } from './registry.js';
import { type LocalEdit, type LocalShapes, type OperatorClass, shapeOf } from './rule.js';
import { type Factors, numbered, rule, type Signature } from './signature.js';
import { byRows } from './window.js';

const inputFlops = (perElement: number) => (node: Node) => perElement * elementCount(shapeOf(node.inputs[0]));

/** Softmax and the like: one axis is combined, before opset 13 all axes from it on; so those behind it stay whole too. */
const alongAxis = (node: Node): Signature => {
  const shape = shapeOf(node.inputs[0]);
  const axis = normaliseAxis(intAttribute(node, 'axis', -1), shape.length);
  const factors = shape.map((_, i) => (i < axis ? `d${i}` : null));
  return { inputs: [factors], outputs: [factors] };
};

/** Layer and RMS norm: the axes from `axis` on are combined; scale and bias belong to them. */
const trailingNorm = (node: Node): Signature => {
  const shape = shapeOf(node.inputs[0]);
  const axis = normaliseAxis(intAttribute(node, 'axis', -1), shape.length);
  const factors: Factors = shape.map((_, i) => (i < axis ? `d${i}` : null));
  return {
    inputs: node.inputs.map((value, i) => (i === 0 ? factors : shapeOf(value).map(() => null))),
    outputs: node.outputs.map((value) =>
      value ? shapeOf(value).map((size, i) => (size === shape[i] ? (factors[i] ?? null) : null)) : [],
    ),
  };
};

/** Instance norm: each channel by itself; scale and bias are per channel. */
const channelNorm = (node: Node): Signature => {
  const factors: Factors = shapeOf(node.inputs[0]).map((_, i) => (i === 0 ? 'n' : i === 1 ? 'c' : null));
  return { inputs: [factors, ...node.inputs.slice(1).map(() => ['c'])], outputs: [factors] };
};

/** Group norm: whole groups of channels. Scale and bias are per channel (opset 21) or per group (opset 18). */
const groupNorm = (node: Node): Signature => {
  const factors: Factors = shapeOf(node.inputs[0]).map((_, i) => (i === 0 ? 'n' : i === 1 ? 'c' : null));
  return {
    inputs: [factors, ['c'], ['c']],
    outputs: [factors],
    units: { c: intAttribute(node, 'num_groups', 1) },
  };
};

const localGroupNorm = (node: Node, local: LocalShapes): LocalEdit => {
  const channels = shapeOf(node.inputs[0])[1] ?? 1;
  return {
    ints: { num_groups: (intAttribute(node, 'num_groups', 1) * (local.inputs[0]?.[1] ?? channels)) / channels },
  };
};

/** Axes of a Reduce operator: attribute, or constant second input from opset 18 (13 for ReduceSum) on; undefined if unknown. */
const reducedAxes = (node: Node): readonly number[] | undefined => {
  const rank = shapeOf(node.inputs[0]).length;
  const axes = node.inputs[1] ? constantInts(node.inputs[1]) : intsAttribute(node, 'axes');
  if (node.inputs[1] && !axes) return undefined;
  if (!axes?.length) return intAttribute(node, 'noop_with_empty_axes', 0) ? [] : numbered('', rank).map(Number);
  return axes.map((axis) => normaliseAxis(axis, rank));
};

const reduceSignature =
  (summed: boolean) =>
  (node: Node): Signature | undefined => {
    const axes = reducedAxes(node);
    if (!axes) return undefined;
    const shape = shapeOf(node.inputs[0]);
    const keep = intAttribute(node, 'keepdims', 1) !== 0;
    const input = shape.map((_, i) => (axes.includes(i) ? (summed ? `r${i}` : null) : `d${i}`));
    const output = shape.flatMap((_, i) => (axes.includes(i) ? (keep ? [null] : []) : [`d${i}`]));
    return {
      inputs: [input, ...node.inputs.slice(1).map(() => [null])],
      outputs: [output],
      summed: numbered('r', shape.length),
    };
  };

/** What a device does for many elements each is more than it reads. */
const FLOPS_PER_ELEMENT = 16;
const summing = (node: Node): OperatorClass => {
  const [input, output] = [elementCount(shapeOf(node.inputs[0])), elementCount(shapeOf(node.outputs[0]))];
  return input > FLOPS_PER_ELEMENT * output ? 'matmul' : 'elementwise';
};

const reduce = (summed: boolean, linear: boolean) =>
  rule({
    cost: summing,
    signature: reduceSignature(summed),
    flops: inputFlops(1),
    linear: () => (linear ? [[0]] : []),
  });

/** A mean over parts of an axis is the sum of the ranks' means, each times its share: never as large as a sum, which overflows. */
const localMean = ({ inputs }: Node, local: LocalShapes): LocalEdit => {
  const isPartial = local.row.outputs[0]?.kind === 'partial';
  const share = elementCount(local.inputs[0] ?? []) / Math.max(1, elementCount(shapeOf(inputs[0])));
  return isPartial && share !== 1 ? { scale: share } : {};
};

/** Pooling: images and channels by themselves. Indices of the maxima count through the whole tensor, so they must be whole. */
const pooling = (node: Node): Signature | undefined => {
  if (node.outputs[1]) return undefined;
  const factors: Factors = shapeOf(node.inputs[0]).map((_, i) => (i === 0 ? 'n' : i === 1 ? 'c' : null));
  return { inputs: [factors], outputs: node.outputs.map(() => factors) };
};

const poolKernel = (node: Node): readonly number[] | undefined =>
  node.outputs[1] ? undefined : intsAttribute(node, 'kernel_shape');

/** The index of the largest along one axis, which is kept or not. */
const argReduce = (node: Node): Signature => {
  const shape = shapeOf(node.inputs[0]);
  const axis = normaliseAxis(intAttribute(node, 'axis', 0), shape.length);
  const factors: Factors = shape.map((_, i) => (i === axis ? null : `d${i}`));
  const kept = intAttribute(node, 'keepdims', 1) !== 0;
  return { inputs: [factors], outputs: [kept ? factors : factors.filter((_, i) => i !== axis)] };
};

/** The largest along one axis, and where they are in it. */
const topK = (node: Node): Signature => {
  const shape = shapeOf(node.inputs[0]);
  const axis = normaliseAxis(intAttribute(node, 'axis', -1), shape.length);
  const factors: Factors = shape.map((_, i) => (i === axis ? null : `d${i}`));
  return { inputs: [factors, [null]], outputs: node.outputs.map(() => factors) };
};

const trailing = rule({ cost: 'norm', signature: trailingNorm, flops: inputFlops(5) });

export const REDUCTION = {
  Softmax: rule({ cost: 'softmax', signature: alongAxis, flops: inputFlops(3) }),
  LogSoftmax: rule({ cost: 'softmax', signature: alongAxis, flops: inputFlops(3) }),
  CumSum: rule({ signature: (node) => cumSum(node), linear: () => [[0]] }),
  LpNormalization: rule({ cost: 'norm', signature: alongAxis, flops: inputFlops(3) }),
  LayerNormalization: trailing,
  SimplifiedLayerNormalization: trailing,
  RMSNormalization: trailing,
  InstanceNormalization: rule({ cost: 'norm', signature: channelNorm, flops: inputFlops(5) }),
  GroupNormalization: rule({ cost: 'norm', signature: groupNorm, flops: inputFlops(5), localise: localGroupNorm }),
  BatchNormalization: rule({ cost: 'norm', signature: channelNorm, flops: inputFlops(2) }),
  ReduceSum: reduce(true, true),
  ReduceMean: { ...reduce(true, true), localise: localMean },
  ReduceMax: reduce(false, false),
  ReduceMin: reduce(false, false),
  ReduceProd: reduce(false, false),
  ReduceLogSum: reduce(false, false),
  ReduceLogSumExp: reduce(false, false),
  ArgMax: rule({ cost: 'norm', signature: argReduce, flops: inputFlops(1) }),
  ArgMin: rule({ cost: 'norm', signature: argReduce, flops: inputFlops(1) }),
  // A sort of each row: some passes over what it reads.
  TopK: rule({ cost: 'softmax', signature: topK, flops: inputFlops(10) }),
  ReduceL1: reduce(true, false),
  ReduceL2: reduce(false, false),
  ReduceSumSquare: reduce(true, false),
  AveragePool: byRows(rule({ signature: pooling, linear: () => [[0]] }), poolKernel),
  MaxPool: byRows(rule({ signature: pooling }), poolKernel),
  LpPool: rule({ signature: pooling }),
  GlobalAveragePool: rule({ cost: summing, signature: pooling, linear: () => [[0]], flops: inputFlops(1) }),
  GlobalMaxPool: rule({ cost: summing, signature: pooling, flops: inputFlops(1) }),
} satisfies Table;

function cumSum(node: Node): Signature | undefined {
  const axis = constantInts(node.inputs[1])?.[0];
  const shape = shapeOf(node.inputs[0]);
  if (axis === undefined) return undefined;
  const factors = shape.map((_, i) => (i === normaliseAxis(axis, shape.length) ? null : `d${i}`));
  return { inputs: [factors, []], outputs: [factors] };
}
