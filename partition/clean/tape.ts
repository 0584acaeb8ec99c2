/**
 * Records nodes that a rewrite adds, and makes no node that does nothing: a slice of a concatenation is made of its parts, a
 * reshape of a reshape is one. What is left is what the rewritten graph has to move.
 */
import type { Node, Value } from '../graph/graph.js';
import { type AttributeProto, intAttribute } from '../onnx/index.js';

/** Values that the tape made, with what they are made of. */
type Origin =
  | { readonly kind: 'concat'; readonly axis: number; readonly parts: readonly Value[] }
  | { readonly kind: 'reshape'; readonly of: Value };

const sameShape = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join();

const sizeOf = (value: Value, axis: number): number => value.shape?.[axis] ?? 0;

/** An inline constant `[values.length]` of int64. */
export const intsConstant = (name: string, values: readonly number[]): Value => ({
  name,
  dtype: 'int64',
  shape: [values.length],
  constant: { kind: 'inline', data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer) },
});

export const makeNode = (
  op: string,
  name: string,
  inputs: readonly Value[],
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
  readonly #origins = new Map<Value, Origin>();
  #made = 0;

  /** The nodes since the last call. */
  take(): readonly Node[] {
    const nodes = this.#nodes;
    this.#nodes = [];
    return nodes;
  }

  /** Results are of the input's type; their names and those of nodes begin with `prefix`. */
  add(
    prefix: string,
    op: string,
    inputs: readonly [Value, ...Value[]],
    shape: readonly number[],
    ...attributes: readonly AttributeProto[]
  ): Value {
    const name = this.#name(prefix, op);
    const output: Value = { name, dtype: inputs[0].dtype, shape };
    this.#nodes.push(makeNode(op, name, inputs, output, ...attributes));
    return output;
  }

  ints(prefix: string, values: readonly number[]): Value {
    return intsConstant(this.#name(prefix, 'ints'), values);
  }

  reshape(prefix: string, value: Value, shape: readonly number[]): Value {
    const origin = this.#origins.get(value);
    const source = origin?.kind === 'reshape' ? origin.of : value;
    if (sameShape(source.shape ?? [], shape)) return source;
    const result = this.add(prefix, 'Reshape', [source, this.ints(prefix, shape)], shape);
    this.#origins.set(result, { kind: 'reshape', of: source });
    return result;
  }

  /** Parts one after another along an axis. */
  concat(prefix: string, axis: number, values: readonly Value[]): Value {
    const parts = values.flatMap((value) => {
      const origin = this.#origins.get(value);
      return origin?.kind === 'concat' && origin.axis === axis ? origin.parts : [value];
    });
    const [first, ...others] = parts;
    if (!first || others.length === 0) return first ?? { name: '', dtype: 'float32', shape: [] };
    const size = parts.reduce((sum, part) => sum + sizeOf(part, axis), 0);
    const shape = (first.shape ?? []).map((extent, i) => (i === axis ? size : extent));
    const result = this.add(prefix, 'Concat', [first, ...others], shape, intAttribute('axis', axis));
    this.#origins.set(result, { kind: 'concat', axis, parts });
    return result;
  }

  /** From `start` to `end` of an axis; nothing where that is empty. */
  slice(prefix: string, value: Value, axis: number, start: number, end: number): readonly Value[] {
    if (end <= start) return [];
    if (start === 0 && end === sizeOf(value, axis)) return [value];
    const origin = this.#origins.get(value);
    if (origin?.kind === 'concat' && origin.axis === axis) return this.#sliceParts(prefix, origin, start, end);
    if (origin?.kind === 'concat') {
      const parts = origin.parts.flatMap((part) => this.slice(prefix, part, axis, start, end));
      return [this.concat(prefix, origin.axis, parts)];
    }
    const shape = (value.shape ?? []).map((extent, i) => (i === axis ? end - start : extent));
    const bounds = [[start], [end], [axis]].map((bound) => this.ints(prefix, bound));
    return [this.add(prefix, 'Slice', [value, ...bounds], shape)];
  }

  #sliceParts(prefix: string, { axis, parts }: Origin & { kind: 'concat' }, start: number, end: number) {
    let offset = 0;
    const found = parts.flatMap((part) => {
      const [from, to] = [Math.max(0, start - offset), Math.min(sizeOf(part, axis), end - offset)];
      offset += sizeOf(part, axis);
      return this.slice(prefix, part, axis, from, to);
    });
    return [this.concat(prefix, axis, found)];
  }

  #name(prefix: string, what: string): string {
    return `${prefix}@${what}${this.#made++}`;
  }
}
