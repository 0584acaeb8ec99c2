/** The nodes that stand for int8 products. Everything that depends on weights alone is folded when the segment is optimised. */

import { DTYPES, type DType, elementCount } from '../../../common/tensor.js';
import { CONTRIB_DOMAIN, type Value } from '../../graph/graph.js';
import { makeNode, type Tape } from '../../graph/tape.js';
import { type AttributeProto, intAttribute, intsAttribute } from '../../onnx/index.js';
import type { Product, Sized, Window } from './products.js';

/** Weights go from -127 to 127, so that the range is as wide on both sides of 0. */
const LARGEST = 127;
/** In place of the scale of an output whose weights are all 0. */
const SMALLEST_SCALE = 1e-30;

interface QuantizedWeight {
  readonly values: Value;
  readonly scale: Value;
}

interface QuantizedActivation extends QuantizedWeight {
  readonly zeroPoint: Value;
}

type Shape = readonly number[];

const range = (end: number): readonly number[] => Array.from({ length: end }, (_, i) => i);

/** Where the window's taps lie: one offset per spatial axis, the last axis running fastest, as weights have them. */
const tapsOf = ({ kernel }: Window): readonly Shape[] =>
  kernel.reduce<readonly Shape[]>(
    (taps, size) => taps.flatMap((tap) => range(size).map((offset) => [...tap, offset])),
    [[]],
  );

/** Places of the window along each spatial axis of an activation. */
const placesOf = (window: Window, { shape }: Sized): Shape =>
  window.kernel.map((size, i) => {
    const [before = 0, after = 0] = [window.pads[i], window.pads[i + window.kernel.length]];
    const reach = (size - 1) * (window.dilations[i] ?? 1) + 1;
    return Math.floor(((shape[i + 2] ?? 0) + before + after - reach) / (window.strides[i] ?? 1)) + 1;
  });

/** Writes products of one graph to a tape. */
export class Int8Products {
  /** What depends on weights alone: no bytes of it live while the segment runs. */
  readonly folded = new Map<Value, 0>();
  readonly #tape: Tape;
  readonly #opset: number;
  readonly #activations = new Map<Value, QuantizedActivation>();
  readonly #weights = new Map<Value, QuantizedWeight>();

  /** @param opset version of ONNX's own operators */
  constructor(tape: Tape, opset: number) {
    this.#tape = tape;
    this.#opset = opset;
  }

  /** The product's nodes; the last one makes the value of the node that they replace. */
  add(product: Product): void {
    const [output] = (product.bias?.add ?? product.node).outputs;
    if (!output) return;
    const activation = this.#quantizeActivation(product.activation);
    const weight = this.#quantizeWeight(product);
    if (!product.window) {
      this.#multiply(product, activation, activation.values, weight, output);
      return;
    }
    const axes = product.activation.shape.length;
    const rows = this.#unfold(product, product.window, activation);
    const shape = [...(rows.shape ?? []).slice(0, -1), weight.scale.shape?.[0] ?? 0];
    const made = this.#tape.value(output.name, 'rows', 'float32', shape);
    const result = this.#multiply(product, activation, rows, weight, made);
    const channelsFirst = [0, axes - 1, ...range(axes).slice(1, -1)];
    this.#tape.add('Transpose', [result], output, [intsAttribute('perm', channelsFirst)]);
  }

  /** To uint8 by the range that it has in this step; once for all products that read it. */
  #quantizeActivation(activation: Sized): QuantizedActivation {
    const known = this.#activations.get(activation);
    if (known) return known;
    const { name, shape } = activation;
    const values = this.#tape.value(name, 'int8', 'uint8', shape);
    const scale = this.#tape.value(name, 'scale', 'float32', []);
    const zeroPoint = this.#tape.value(name, 'zero', 'uint8', []);
    const node = makeNode('DynamicQuantizeLinear', values.name, [activation], values);
    this.#tape.keep({ ...node, outputs: [values, scale, zeroPoint] });
    const made = { values, scale, zeroPoint };
    this.#activations.set(activation, made);
    return made;
  }

  /** To int8 `[inputs, outputs]` with a scale for each output. */
  #quantizeWeight({ weight, outputAxis, window }: Product): QuantizedWeight {
    const known = this.#weights.get(weight);
    if (known) return known;
    const { shape } = weight;
    const outputs = shape[outputAxis] ?? 0;
    const summed = range(shape.length).filter((axis) => axis !== outputAxis);
    const each = shape.map((size, axis) => (axis === outputAxis ? size : 1));
    const fold = (op: string, inputs: readonly Value[], to: Shape, ...attributes: readonly AttributeProto[]) =>
      this.#fold(op, inputs, 'float32', to, attributes);
    const peak = this.#reduceMax(fold('Abs', [weight], shape), summed, each);
    const wide = fold('Div', [peak, this.#float(LARGEST)], each);
    const step = fold('Max', [wide, this.#float(SMALLEST_SCALE)], each);
    const steps = fold('Round', [fold('Div', [weight, step], shape)], shape);
    const whole = this.#fold('Cast', [steps], 'int8', shape, [intAttribute('to', DTYPES.int8.code)]);
    // A convolution's taps come before its channels, as `#unfold` lays out its input.
    const order = window ? [...summed.slice(1), 1, 0] : [...summed, outputAxis];
    const perm = intsAttribute('perm', order);
    const laid = this.#fold(
      'Transpose',
      [whole],
      'int8',
      order.map((axis) => shape[axis] ?? 0),
      [perm],
    );
    const matrix = [elementCount(shape) / outputs, outputs];
    const values = this.#fold('Reshape', [laid, this.#ints(matrix)], 'int8', matrix);
    const made = { values, scale: fold('Reshape', [step, this.#ints([outputs])], [outputs]) };
    this.#weights.set(weight, made);
    return made;
  }

  /** A convolution's input as rows, one for each place of the window: every tap's channels, one behind the other. */
  #unfold({ activation }: Product, window: Window, { values, zeroPoint }: QuantizedActivation): Value {
    const axes = activation.shape.length;
    const channelsLast = [0, ...range(axes).slice(2), 1];
    const moved = channelsLast.map((axis) => activation.shape[axis] ?? 0);
    const last = this.#uint8('Transpose', [values], moved, intsAttribute('perm', channelsLast));
    const padded = this.#pad(last, window, zeroPoint);
    const places = placesOf(window, activation);
    const parts = tapsOf(window).map((tap) => this.#tap(padded, tap, window, places));
    const [only = padded, ...others] = parts;
    if (others.length === 0) return only;
    const shape = [moved[0] ?? 0, ...places, parts.length * (moved.at(-1) ?? 0)];
    return this.#uint8('Concat', parts, shape, intAttribute('axis', axes - 1));
  }

  #pad(value: Value, { pads, kernel }: Window, zeroPoint: Value): Value {
    if (pads.every((size) => size === 0)) return value;
    const [before, after] = [
      [0, ...pads.slice(0, kernel.length), 0],
      [0, ...pads.slice(kernel.length), 0],
    ];
    const shape = (value.shape ?? []).map((size, axis) => size + (before[axis] ?? 0) + (after[axis] ?? 0));
    return this.#uint8('Pad', [value, this.#ints([...before, ...after]), zeroPoint], shape);
  }

  #tap(value: Value, tap: Shape, { strides, dilations, kernel }: Window, places: Shape): Value {
    if (elementCount(kernel) === 1 && strides.every((stride) => stride === 1)) return value;
    const starts = tap.map((offset, i) => offset * (dilations[i] ?? 1));
    const ends = starts.map((start, i) => start + ((places[i] ?? 1) - 1) * (strides[i] ?? 1) + 1);
    const bounds = [starts, ends, tap.map((_, i) => i + 1), strides].map((numbers) => this.#ints(numbers));
    const [batch = 0, channels = 0] = [value.shape?.[0], value.shape?.at(-1)];
    return this.#uint8('Slice', [value, ...bounds], [batch, ...places, channels]);
  }

  /** @returns `output` */
  #multiply(
    { bias, weight, outputAxis }: Product,
    activation: QuantizedActivation,
    rows: Value,
    { values, scale }: QuantizedWeight,
    output: Value,
  ): Value {
    const outputs = [weight.shape[outputAxis] ?? 0];
    const added = bias && this.#fold('Reshape', [bias.value, this.#ints(outputs)], 'float32', outputs);
    const inputs = [rows, values, activation.scale, scale, activation.zeroPoint, ...(added ? [undefined, added] : [])];
    return this.#tape.add('MatMulIntegerToFloat', inputs, output, [], CONTRIB_DOMAIN);
  }

  /** Since version 18 the axes are an input. */
  #reduceMax(input: Value, axes: Shape, shape: Shape): Value {
    return this.#opset < 18
      ? this.#fold('ReduceMax', [input], 'float32', shape, [intsAttribute('axes', axes)])
      : this.#fold('ReduceMax', [input, this.#ints(axes)], 'float32', shape);
  }

  #uint8(op: string, inputs: readonly Value[], shape: Shape, ...attributes: readonly AttributeProto[]): Value {
    return this.#tape.add(op, inputs, this.#tape.value(inputs[0]?.name ?? op, op, 'uint8', shape), attributes);
  }

  #fold(
    op: string,
    inputs: readonly Value[],
    dtype: DType,
    shape: Shape,
    attributes: readonly AttributeProto[] = [],
  ): Value {
    const made = this.#tape.value(inputs[0]?.name ?? op, op, dtype, shape);
    this.folded.set(made, 0);
    return this.#tape.add(op, inputs, made, attributes);
  }

  #ints(values: Shape): Value {
    return this.#helper(`ints ${values}`, () => this.#tape.ints('int8', values));
  }

  #float(value: number): Value {
    return this.#helper(`float ${value}`, () => this.#tape.float('int8', value));
  }

  #helper(key: string, make: () => Value): Value {
    const value = this.#tape.shared(key, make);
    this.folded.set(value, 0);
    return value;
  }
}
