/** Finds a segment's products with constant weights: what each multiplies, and how its weight's axes lie. */

import { elementCount } from '../../../common/tensor.js';
import {
  findUses,
  floatAttribute,
  type Graph,
  intAttribute,
  intsAttribute,
  type Node,
  stringAttribute,
  type Value,
} from '../../graph/graph.js';
import type { Known } from './known.js';

/** How a convolution walks over its input; one entry per spatial axis. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** All starts, then all ends, as ONNX has them. */
  readonly pads: readonly number[];
}

/** A value whose size is known. */
export type Sized = Value & { readonly shape: readonly number[] };

/** A node that multiplies an activation by a weight that is known beforehand. */
export interface Product {
  readonly node: Node;
  readonly activation: Sized;
  readonly weight: Sized;
  /** Of the weight; the others are summed over. */
  readonly outputAxis: number;
  /** Of a convolution; absent for a linear layer, whose inputs are the activation's last axis. */
  readonly window?: Window;
  /** A constant that is added to each output, and the node that does it: nothing else reads the bare product. */
  readonly bias?: { readonly add: Node; readonly value: Value };
}

/** Products over fewer inputs or with fewer outputs are hardly faster in int8, and often a model's first or last. */
const MIN_INPUTS = 64;
const MIN_OUTPUTS = 8;

/** Others leave the padding to the operator. */
const NO_AUTO_PAD: ReadonlySet<string> = new Set(['', 'NOTSET']);

const isSized = (value: Value | undefined): value is Sized => value?.shape !== undefined;

/** Axis of the weight that has the outputs; undefined where the node is no product that is known here. */
const findOutputAxis = (node: Node, weight: Sized, activation: Sized): number | undefined => {
  if (node.domain !== '' || node.inputs.length !== 2) return undefined;
  const [matrix, transposed] = [weight.shape.length === 2, intAttribute(node, 'transB', 0) === 1];
  switch (node.op) {
    case 'MatMul':
      return matrix && activation.shape.length >= 2 ? 1 : undefined;
    case 'Gemm':
      return intAttribute(node, 'transA', 0) === 0 && floatAttribute(node, 'alpha', 1) === 1
        ? Number(!transposed)
        : undefined;
    case 'Conv':
      return intAttribute(node, 'group', 1) === 1 && NO_AUTO_PAD.has(stringAttribute(node, 'auto_pad', ''))
        ? 0
        : undefined;
    default:
      return undefined;
  }
};

const windowOf = (node: Node, { shape }: Sized): Window => {
  const kernel = shape.slice(2);
  const ones = kernel.map(() => 1);
  return {
    kernel,
    strides: intsAttribute(node, 'strides') ?? ones,
    dilations: intsAttribute(node, 'dilations') ?? ones,
    pads: intsAttribute(node, 'pads') ?? [...ones, ...ones].fill(0),
  };
};

const isWorthwhile = ({ shape }: Sized, outputAxis: number): boolean => {
  const outputs = shape[outputAxis] ?? 0;
  return outputs >= MIN_OUTPUTS && elementCount(shape) / outputs >= MIN_INPUTS;
};

/** Whether a constant has one value for each output and nothing else, so that adding it adds a bias. */
const isBias = (shape: readonly number[], product: readonly number[], axis: number): boolean => {
  const aligned = [...product.map(() => 1), ...shape].slice(shape.length);
  return shape.length <= product.length && aligned.every((size, i) => size === (i === axis ? product[axis] : 1));
};

/** The graph's products with a float32 weight that is worth quantising. */
export const findProducts = (graph: Graph, known: Known): readonly Product[] => {
  const { consumers } = findUses(graph);
  const leaves = new Set(graph.outputs);
  /** @param axis of the outputs; the last where undefined */
  const findBias = (output: Value | undefined, axis: number | undefined): Product['bias'] => {
    const [add, ...others] = output ? (consumers.get(output) ?? []) : [];
    if (!output?.shape || add?.op !== 'Add' || others.length > 0 || leaves.has(output)) return undefined;
    const value = add.inputs.find((input) => input !== output);
    if (!value?.shape || !known.has(value)) return undefined;
    return isBias(value.shape, output.shape, axis ?? output.shape.length - 1) ? { add, value } : undefined;
  };
  const toProduct = (node: Node): Product | undefined => {
    const [activation, weight] = node.inputs;
    if (!isSized(weight) || !known.has(weight) || !isSized(activation) || known.has(activation)) return undefined;
    if (weight.dtype !== 'float32' || activation.dtype !== 'float32') return undefined;
    const outputAxis = findOutputAxis(node, weight, activation);
    if (outputAxis === undefined || !isWorthwhile(weight, outputAxis)) return undefined;
    const isConv = node.op === 'Conv';
    const bias = findBias(node.outputs[0], isConv ? 1 : undefined);
    return {
      node,
      activation,
      weight,
      outputAxis,
      ...(isConv ? { window: windowOf(node, weight) } : {}),
      ...(bias ? { bias } : {}),
    };
  };
  return graph.nodes.flatMap((node) => toProduct(node) ?? []);
};
