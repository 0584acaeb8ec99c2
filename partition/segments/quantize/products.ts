/** Finds a segment's products with constant weights: what each multiplies, and how its weight's axes lie. */

import { elementCount, isKnownSpec, type TensorSpec } from '../../../common/tensor.js';
import type { AttributeProto, NodeProto } from '../../onnx/index.js';
import type { EmittedSegment } from '../emit.js';
import type { Constants } from './constants.js';

/** How a convolution walks over its input; one entry per spatial axis. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** All starts, then all ends, as ONNX has them. */
  readonly pads: readonly number[];
}

/** A node that multiplies an activation by a weight that is known beforehand. */
export interface Product {
  readonly node: NodeProto;
  readonly activation: TensorSpec;
  readonly weight: TensorSpec;
  /** Of the weight; the others are summed over. */
  readonly outputAxis: number;
  /** Of a convolution; absent for a linear layer, whose inputs are the activation's last axis. */
  readonly window?: Window;
  /** A constant that is added to each output, and the node that does it: nothing else reads the bare product. */
  readonly bias?: { readonly add: NodeProto; readonly name: string };
}

/** Products over fewer inputs or with fewer outputs are hardly faster in int8, and often a model's first or last. */
const MIN_INPUTS = 64;
const MIN_OUTPUTS = 8;

const find = ({ attribute }: NodeProto, name: string): AttributeProto | undefined =>
  attribute.find((candidate) => candidate.name === name);

const int = (node: NodeProto, name: string, otherwise: number): number => Number(find(node, name)?.i ?? otherwise);

const ints = (node: NodeProto, name: string, otherwise: readonly number[]): readonly number[] =>
  find(node, name)?.ints.map(Number) ?? otherwise;

/** Others leave the padding to the operator. */
const NO_AUTO_PAD: ReadonlySet<string> = new Set(['', 'NOTSET']);

/** Axis of the weight that has the outputs; undefined where the node is no product that is known here. */
const findOutputAxis = (node: NodeProto, weight: TensorSpec, activation: TensorSpec): number | undefined => {
  if (node.domain !== '' || node.input.length !== 2) return undefined;
  const [matrix, transposed] = [weight.shape.length === 2, int(node, 'transB', 0) === 1];
  switch (node.opType) {
    case 'MatMul':
      return matrix && activation.shape.length >= 2 ? 1 : undefined;
    case 'Gemm':
      return int(node, 'transA', 0) === 0 && (find(node, 'alpha')?.f ?? 1) === 1 ? Number(!transposed) : undefined;
    case 'Conv':
      return int(node, 'group', 1) === 1 && NO_AUTO_PAD.has(new TextDecoder().decode(find(node, 'auto_pad')?.s))
        ? 0
        : undefined;
    default:
      return undefined;
  }
};

const windowOf = (node: NodeProto, { shape }: TensorSpec): Window => {
  const kernel = shape.slice(2);
  const ones = kernel.map(() => 1);
  return {
    kernel,
    strides: ints(node, 'strides', ones),
    dilations: ints(node, 'dilations', ones),
    pads: ints(node, 'pads', [...ones, ...ones].fill(0)),
  };
};

const isWorthwhile = ({ shape }: TensorSpec, outputAxis: number): boolean => {
  const outputs = shape[outputAxis] ?? 0;
  return outputs >= MIN_OUTPUTS && elementCount(shape) / outputs >= MIN_INPUTS;
};

/** Whether a constant has one value for each output and nothing else, so that adding it adds a bias. */
const isBias = (shape: readonly number[], product: readonly number[], axis: number): boolean => {
  const aligned = [...product.map(() => 1), ...shape].slice(shape.length);
  return shape.length <= product.length && aligned.every((size, i) => size === (i === axis ? product[axis] : 1));
};

export class ProductFinder {
  readonly #constants: Constants;
  readonly #specs: ReadonlyMap<string, TensorSpec>;
  readonly #readers = new Map<string, NodeProto[]>();
  readonly #leaves: ReadonlySet<string>;

  constructor(segment: EmittedSegment, constants: Constants) {
    this.#constants = constants;
    const known = [...segment.inputs, ...segment.made.values()].filter(isKnownSpec);
    this.#specs = new Map(known.map((spec) => [spec.name, spec]));
    this.#leaves = new Set(segment.outputs.map(({ name }) => name));
    for (const node of segment.model.graph?.node ?? []) {
      for (const name of new Set(node.input)) this.#readers.set(name, [...(this.#readers.get(name) ?? []), node]);
    }
  }

  /** The node as a product with a float32 weight that is worth quantising; undefined where it is none. */
  find(node: NodeProto): Product | undefined {
    const [input = '', factor = ''] = node.input;
    const weight = this.#constants.spec(factor);
    const activation = this.#constants.has(input) ? undefined : this.#specs.get(input);
    if (weight?.dtype !== 'float32' || activation?.dtype !== 'float32') return undefined;
    const outputAxis = findOutputAxis(node, weight, activation);
    if (outputAxis === undefined || !isWorthwhile(weight, outputAxis)) return undefined;
    const isConv = node.opType === 'Conv';
    const bias = this.#findBias(node.output[0] ?? '', isConv ? 1 : undefined);
    return {
      node,
      activation,
      weight,
      outputAxis,
      ...(isConv ? { window: windowOf(node, weight) } : {}),
      ...(bias ? { bias } : {}),
    };
  }

  /** @param axis of the outputs; the last where absent */
  #findBias(output: string, axis: number | undefined): Product['bias'] {
    const [add, ...others] = this.#readers.get(output) ?? [];
    if (add?.opType !== 'Add' || others.length > 0 || this.#leaves.has(output)) return undefined;
    const name = add.input.find((input) => input !== output) ?? '';
    const shape = this.#constants.spec(name)?.shape;
    const product = this.#specs.get(output)?.shape;
    if (!shape || !product || !isBias(shape, product, axis ?? product.length - 1)) return undefined;
    return { add, name };
  }
}
