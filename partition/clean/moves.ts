/**
 * Moves that a rewrite adds, and none that does nothing: a slice of a concatenation is made of its parts, a reshape of a
 * reshape is one. What is left is what the rewritten graph has to move.
 */
import type { Value } from '../graph/graph.js';
import { Tape } from '../graph/tape.js';
import { intAttribute } from '../onnx/index.js';

/** Values that the moves made, with what they are made of. */
type Origin =
  | { readonly kind: 'concat'; readonly axis: number; readonly parts: readonly Value[] }
  | { readonly kind: 'reshape'; readonly of: Value };

const sameShape = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join();

const sizeOf = (value: Value, axis: number): number => value.shape?.[axis] ?? 0;

/** Results are of the input's type; their names and those of nodes begin with `prefix`. */
export class Moves {
  readonly tape = new Tape();
  readonly #origins = new Map<Value, Origin>();

  reshape(prefix: string, value: Value, shape: readonly number[]): Value {
    const origin = this.#origins.get(value);
    const source = origin?.kind === 'reshape' ? origin.of : value;
    if (sameShape(source.shape ?? [], shape)) return source;
    const sizes = this.tape.ints(prefix, shape);
    const result = this.tape.value(prefix, 'Reshape', source.dtype, shape);
    this.#origins.set(result, { kind: 'reshape', of: source });
    return this.tape.add('Reshape', [source, sizes], result);
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
    const result = this.tape.value(prefix, 'Concat', first.dtype, shape);
    this.#origins.set(result, { kind: 'concat', axis, parts });
    return this.tape.add('Concat', parts, result, [intAttribute('axis', axis)]);
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
    const bounds = [[start], [end], [axis]].map((bound) => this.tape.ints(prefix, bound));
    return [this.tape.add('Slice', [value, ...bounds], this.tape.value(prefix, 'Slice', value.dtype, shape))];
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
}
