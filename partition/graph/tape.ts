/**
 * The one recorder for what a pass adds to a graph: nodes, their results and the constants that they need. A pass walks over a
 * graph's nodes, keeps some, records others in their place, and takes what has gathered. Names say what a value was made of;
 * those that files need are given at the very end (`segments/name-values.ts`).
 */
import type { DType } from '../../common/tensor.js';
import type { AttributeProto } from '../onnx/index.js';
import type { Node, Value } from './graph.js';

export const makeNode = (
  op: string,
  name: string,
  inputs: readonly (Value | undefined)[],
  output: Value,
  ...attributes: readonly AttributeProto[]
): Node => ({
  name,
  op,
  domain: '',
  attributes: new Map(attributes.map((attribute) => [attribute.name, attribute])),
  inputs,
  outputs: [output],
});

export class Tape {
  #nodes: Node[] = [];
  #made = 0;
  readonly #shared = new Map<string, Value>();

  /** The nodes since the last call. */
  take(): readonly Node[] {
    const nodes = this.#nodes;
    this.#nodes = [];
    return nodes;
  }

  /** Puts a node behind those that are there. */
  keep(node: Node): void {
    this.#nodes.push(node);
  }

  /** A result to be: its name begins with `prefix`. */
  value(prefix: string, what: string, dtype: DType, shape: readonly number[]): Value {
    return { name: `${prefix}@${what}${this.#made++}`, dtype, shape };
  }

  /** @param output one of `value`'s, or one that another node made until now. @returns it */
  add(
    op: string,
    inputs: readonly (Value | undefined)[],
    output: Value,
    attributes: readonly AttributeProto[] = [],
    domain = '',
  ): Value {
    this.#nodes.push({ ...makeNode(op, output.name, inputs, output, ...attributes), domain });
    return output;
  }

  /** A constant `[values.length]`. */
  ints(prefix: string, values: readonly number[], dtype: 'int64' | 'int32' = 'int64'): Value {
    const array = dtype === 'int64' ? BigInt64Array.from(values, BigInt) : Int32Array.from(values);
    return this.#constant(prefix, 'ints', dtype, [values.length], array.buffer);
  }

  /** A scalar constant of float32. */
  float(prefix: string, value: number): Value {
    return this.#constant(prefix, 'float', 'float32', [], Float32Array.of(value).buffer);
  }

  zeros(prefix: string, dtype: DType, shape: readonly number[], bytes: number): Value {
    return this.#constant(prefix, 'zeros', dtype, shape, new ArrayBuffer(bytes));
  }

  /** What `make` gives, for all who ask under the same key. */
  shared(key: string, make: () => Value): Value {
    const value = this.#shared.get(key) ?? make();
    this.#shared.set(key, value);
    return value;
  }

  #constant(prefix: string, what: string, dtype: DType, shape: readonly number[], data: ArrayBuffer): Value {
    return { ...this.value(prefix, what, dtype, shape), constant: { kind: 'inline', data: new Uint8Array(data) } };
  }
}
