/** The nodes that stand for int8 products. Everything that depends on weights alone is folded when the segment is optimised. */

import { byteLength, DTYPES, elementCount } from '../../../common/tensor.js';
import {
  type AttributeProto,
  createNode,
  createTensor,
  intAttribute,
  intsAttribute,
  type NodeProto,
  type TensorProto,
} from '../../onnx/index.js';
import type { Product, Window } from './products.js';

export const RUNTIME_DOMAIN = 'com.microsoft';

/** Weights go from -127 to 127, so that the range is as wide on both sides of 0. */
const LARGEST = 127;
/** In place of the scale of an output whose weights are all 0. */
const SMALLEST_SCALE = 1e-30;

interface Quantized {
  readonly values: string;
  readonly scale: string;
  readonly zeroPoint: string;
}

const range = (end: number): readonly number[] => Array.from({ length: end }, (_, i) => i);

/** Where the window's taps lie: one offset per spatial axis, the last axis running fastest, as weights have them. */
const tapsOf = ({ kernel }: Window): readonly (readonly number[])[] =>
  kernel.reduce<readonly (readonly number[])[]>(
    (taps, size) => taps.flatMap((tap) => range(size).map((offset) => [...tap, offset])),
    [[]],
  );

export class QuantizedDraft {
  readonly nodes: NodeProto[] = [];
  readonly initializers: TensorProto[] = [];
  /** Bytes of the largest activations that a product needs for itself. */
  workBytes = 0;
  readonly #opset: number;
  readonly #names = new Set<string>();

  /** @param opset version of ONNX's own operators */
  constructor(opset: number) {
    this.#opset = opset;
  }

  /** Puts a node where it was. */
  keep(node: NodeProto): void {
    this.nodes.push(node);
  }

  /** The product's nodes; the last one's output has the name of the node that they replace. */
  addProduct(product: Product): void {
    const output = (product.bias?.add ?? product.node).output[0] ?? '';
    const activation = this.#quantizeActivation(product.activation.name);
    const weight = this.#quantizeWeight(product);
    if (!product.window) {
      this.#multiply(product, activation, activation.values, weight, output);
      this.workBytes = Math.max(this.workBytes, elementCount(product.activation.shape));
      return;
    }
    const axes = product.activation.shape.length;
    const last = [0, ...range(axes).slice(2), 1];
    const first = [0, axes - 1, ...range(axes).slice(1, -1)];
    const rows = this.#unfold(product, product.window, activation, last);
    const result = this.#multiply(product, activation, rows, weight, `${output}@rows`);
    this.#add('Transpose', [result], output, [intsAttribute('perm', first)]);
  }

  /** To uint8 by the range that it has in this step; once for all products that read it. */
  #quantizeActivation(name: string): Quantized {
    const made = { values: `${name}@int8`, scale: `${name}@int8scale`, zeroPoint: `${name}@int8zero` };
    if (this.#isNew(made.values)) {
      const output = [made.values, made.scale, made.zeroPoint];
      this.nodes.push(createNode({ name: made.values, opType: 'DynamicQuantizeLinear', input: [name], output }));
    }
    return made;
  }

  /** To int8 `[inputs, outputs]` with a scale for each output. */
  #quantizeWeight({ weight, outputAxis, window }: Product): Omit<Quantized, 'zeroPoint'> {
    const { name, shape } = weight;
    const prefix = `${name}@int8.${outputAxis}`;
    const made = { values: prefix, scale: `${prefix}scale` };
    if (!this.#isNew(prefix)) return made;
    const outputs = shape[outputAxis] ?? 0;
    const summed = range(shape.length).filter((axis) => axis !== outputAxis);
    const peak = this.#reduceMax(this.#add('Abs', [name], `${prefix}abs`), summed, `${prefix}peak`);
    const wide = this.#add('Div', [peak, this.#float(LARGEST)], `${prefix}wide`);
    const scale = this.#add('Max', [wide, this.#float(SMALLEST_SCALE)], `${prefix}step`);
    const steps = this.#add('Round', [this.#add('Div', [name, scale], `${prefix}ratio`)], `${prefix}round`);
    const whole = this.#add('Cast', [steps], `${prefix}cast`, [intAttribute('to', DTYPES.int8.code)]);
    // A convolution's taps come before its channels, as `#unfold` lays out its input.
    const order = window ? [...summed.slice(1), 1, 0] : [...summed, outputAxis];
    const laid = this.#add('Transpose', [whole], `${prefix}laid`, [intsAttribute('perm', order)]);
    this.#add('Reshape', [laid, this.#ints([elementCount(shape) / outputs, outputs])], made.values);
    this.#add('Reshape', [scale, this.#ints([outputs])], made.scale);
    return made;
  }

  /** A convolution's input as rows, one for each place of the window: every tap's channels, one behind the other. */
  #unfold(
    { activation, node, weight }: Product,
    window: Window,
    { values, zeroPoint }: Quantized,
    channelsLast: readonly number[],
  ): string {
    const { shape } = activation;
    const taps = tapsOf(window);
    const prefix = `${node.output[0]}@unfold`;
    const moved = this.#add('Transpose', [values], `${prefix}moved`, [intsAttribute('perm', channelsLast)]);
    const padded = this.#pad(moved, window, zeroPoint, prefix);
    const rows = window.kernel.map((size, i) => {
      const [before = 0, after = 0] = [window.pads[i], window.pads[i + window.kernel.length]];
      const reach = (size - 1) * (window.dilations[i] ?? 1) + 1;
      return Math.floor(((shape[i + 2] ?? 0) + before + after - reach) / (window.strides[i] ?? 1)) + 1;
    });
    const parts = taps.map((tap) => this.#tap(padded, tap, window, rows, prefix));
    const bytes = (shape[0] ?? 1) * elementCount(rows) * (elementCount(weight.shape) / (weight.shape[0] ?? 1));
    this.workBytes = Math.max(this.workBytes, 3 * byteLength({ dtype: 'uint8', shape }) + 2 * bytes);
    const isWhole = parts.length === 1;
    return isWhole
      ? (parts[0] ?? '')
      : this.#add('Concat', parts, `${prefix}rows`, [intAttribute('axis', shape.length - 1)]);
  }

  #pad(input: string, { pads, kernel }: Window, zeroPoint: string, prefix: string): string {
    if (pads.every((size) => size === 0)) return input;
    const sizes = [0, ...pads.slice(0, kernel.length), 0, 0, ...pads.slice(kernel.length), 0];
    return this.#add('Pad', [input, this.#ints(sizes), zeroPoint], `${prefix}padded`);
  }

  #tap(input: string, tap: readonly number[], window: Window, rows: readonly number[], prefix: string): string {
    const { strides, dilations, kernel } = window;
    if (elementCount(kernel) === 1 && strides.every((stride) => stride === 1)) return input;
    const starts = tap.map((offset, i) => offset * (dilations[i] ?? 1));
    const ends = starts.map((start, i) => start + ((rows[i] ?? 1) - 1) * (strides[i] ?? 1) + 1);
    const bounds = [starts, ends, tap.map((_, i) => i + 1), strides].map((numbers) => this.#ints(numbers));
    return this.#add('Slice', [input, ...bounds], `${prefix}${tap.join('.')}`);
  }

  #multiply(
    { bias, weight, outputAxis }: Product,
    activation: Quantized,
    rows: string,
    { values, scale }: Omit<Quantized, 'zeroPoint'>,
    output: string,
  ): string {
    const inputs = [rows, values, activation.scale, scale, activation.zeroPoint];
    if (!bias) return this.#add('MatMulIntegerToFloat', inputs, output, [], RUNTIME_DOMAIN);
    const flat = this.#add('Reshape', [bias.name, this.#ints([weight.shape[outputAxis] ?? 0])], `${output}@bias`);
    return this.#add('MatMulIntegerToFloat', [...inputs, '', flat], output, [], RUNTIME_DOMAIN);
  }

  /** Since version 18 the axes are an input. */
  #reduceMax(input: string, axes: readonly number[], output: string): string {
    return this.#opset < 18
      ? this.#add('ReduceMax', [input], output, [intsAttribute('axes', axes)])
      : this.#add('ReduceMax', [input, this.#ints(axes)], output);
  }

  #add(opType: string, input: string[], output: string, attribute: AttributeProto[] = [], domain = ''): string {
    this.nodes.push(createNode({ name: output, opType, domain, input, output: [output], attribute }));
    return output;
  }

  #ints(values: readonly number[]): string {
    const name = `ints ${values.join(' ')}@int8`;
    const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    if (this.#isNew(name)) {
      const dims = [BigInt(values.length)];
      this.initializers.push(createTensor({ name, dataType: DTYPES.int64.code, dims, rawData }));
    }
    return name;
  }

  #float(value: number): string {
    const name = `float ${value}@int8`;
    const rawData = new Uint8Array(Float32Array.of(value).buffer);
    if (this.#isNew(name))
      this.initializers.push(createTensor({ name, dataType: DTYPES.float32.code, dims: [], rawData }));
    return name;
  }

  #isNew(name: string): boolean {
    if (this.#names.has(name)) return false;
    this.#names.add(name);
    return true;
  }
}
