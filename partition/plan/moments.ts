/**
 * Norms over rows in their parts, for a split of rows: a rank has some of the rows that a mean goes over, so that mean and variance
 * are sums over the ranks, of a few numbers each. In two passes, the variance from what is left when the mean is gone: the mean of
 * the squares less the square of the mean loses digits where the mean is large (Chan, Golub and LeVeque, 1983).
 */
import { DTYPES, type DType, elementCount } from '../../common/tensor.js';
import {
  constantFloats,
  floatAttribute,
  type Graph,
  intAttribute,
  type Node,
  opsetOf,
  type Value,
} from '../graph/graph.js';
import { Tape } from '../graph/tape.js';
import { type AttributeProto, intAttribute as int, intsAttribute as ints } from '../onnx/index.js';

/** From here on ReduceMean takes its axes as an operand. */
const MEAN_AXES_AS_INPUT = 18;
/** And here the scale of GroupNormalization is one for each channel, not for each group. */
const SCALE_BY_CHANNEL = 21;

type Sized = Value & { readonly shape: readonly number[] };
const isSized = (value: Value | undefined): value is Sized => value?.shape !== undefined;

/** What one norm is made of, in float32. */
class Norm {
  readonly #tape: Tape;
  readonly #opset: number;
  readonly #name: string;

  constructor(tape: Tape, opset: number, name: string) {
    this.#tape = tape;
    this.#opset = opset;
    this.#name = name;
  }

  #make(
    op: string,
    inputs: readonly Value[],
    shape: readonly number[],
    attributes: readonly AttributeProto[] = [],
    dtype: DType = 'float32',
  ): Sized {
    const made = { ...this.#tape.value(this.#name, op, dtype, shape), shape };
    this.#tape.add(op, inputs, made, attributes);
    return made;
  }

  single(value: Sized): Sized {
    const code = DTYPES.float32.code;
    return value.dtype === 'float32' ? value : this.#make('Cast', [value], value.shape, [int('to', code)]);
  }

  reshape(value: Value, shape: readonly number[]): Sized {
    return this.#make('Reshape', [value, this.#tape.ints(this.#name, shape)], shape, [], value.dtype);
  }

  #mean(value: Sized): Sized {
    const axes = value.shape.map((_, axis) => axis).slice(2);
    const shape = value.shape.map((size, axis) => (axis < 2 ? size : 1));
    return this.#opset < MEAN_AXES_AS_INPUT
      ? this.#make('ReduceMean', [value], shape, [ints('axes', axes)])
      : this.#make('ReduceMean', [value, this.#tape.ints(this.#name, axes)], shape);
  }

  /** `(x - mean) / sqrt(variance + epsilon)`, of each picture and group: `[batch, groups, ...]`. */
  normed(value: Sized, epsilon: number): Sized {
    const mean = this.#mean(value);
    const centred = this.#make('Sub', [value, mean], value.shape);
    const variance = this.#mean(this.#make('Mul', [centred, centred], value.shape));
    const sum = this.#make('Add', [variance, this.#tape.float(this.#name, epsilon)], mean.shape);
    return this.#make('Div', [centred, this.#make('Sqrt', [sum], mean.shape)], value.shape);
  }

  /** `scale * x + bias`, a weight for each channel. */
  weighted(value: Sized, scale: Sized, bias: Sized): Sized {
    const perChannel = (weight: Sized): Sized =>
      this.single(this.reshape(weight, [1, elementCount(weight.shape), ...value.shape.slice(2).map(() => 1)]));
    const isAll = (weight: Value, number: number) => constantFloats(weight)?.every((one) => one === number) ?? false;
    const scaled = isAll(scale, 1) ? value : this.#make('Mul', [value, perChannel(scale)], value.shape);
    return isAll(bias, 0) ? scaled : this.#make('Add', [scaled, perChannel(bias)], value.shape);
  }

  finish(value: Sized, output: Value): void {
    const cast = output.dtype !== 'float32';
    this.#tape.add(cast ? 'Cast' : 'Identity', [value], output, cast ? [int('to', DTYPES[output.dtype].code)] : []);
  }
}

/** Groups of the channels that a norm goes over one by one; undefined where it is none that is known here. */
const groupsOf = (node: Node, channels: number, opset: number): number | undefined => {
  if (node.domain !== '') return undefined;
  if (node.op === 'InstanceNormalization') return channels;
  const isKnown = node.op === 'GroupNormalization' && opset >= SCALE_BY_CHANNEL;
  return isKnown ? intAttribute(node, 'num_groups', 1) : undefined;
};

/** @returns whether the node was one */
const takeApart = (tape: Tape, node: Node, opset: number): boolean => {
  const [value, scale, bias] = node.inputs;
  const [output] = node.outputs;
  if (!isSized(value) || !isSized(scale) || !isSized(bias) || !output) return false;
  const [batch = 1, channels = 1] = value.shape;
  const groups = groupsOf(node, channels, opset);
  if (groups === undefined) return false;
  const norm = new Norm(tape, opset, output.name);
  const size = elementCount(value.shape.slice(1)) / groups;
  const single = norm.single(value);
  const isByGroup = groups !== channels;
  const normed = norm.normed(
    isByGroup ? norm.reshape(single, [batch, groups, size]) : single,
    floatAttribute(node, 'epsilon', 1e-5),
  );
  norm.finish(norm.weighted(isByGroup ? norm.reshape(normed, value.shape) : normed, scale, bias), output);
  return true;
};

/** The same graph with its norms over rows as means. */
export const withMoments = (graph: Graph): Graph => {
  const opset = opsetOf(graph.opsets);
  const tape = new Tape();
  const nodes = graph.nodes.flatMap((node) => (takeApart(tape, node, opset) ? tape.take() : [node]));
  return { ...graph, nodes };
};
