/** Stretches of a tensor's axis, and zeros behind it, as nodes. */
import { byteLength } from '../../common/tensor.js';
import type { Value } from '../graph/graph.js';
import type { Tape } from '../graph/tape.js';
import { intAttribute } from '../onnx/index.js';

const resized = ({ shape = [] }: Value, axis: number, size: number): readonly number[] =>
  shape.map((old, other) => (other === axis ? size : old));

/** Stretches `[start, end)` of an axis, one after the other, as one tensor. */
export const cutOut = (
  tape: Tape,
  value: Value,
  axis: number,
  stretches: readonly (readonly [start: number, end: number])[],
): Value => {
  const axes = tape.shared(`axis ${axis}`, () => tape.ints(`axis ${axis}`, [axis]));
  const parts = stretches.map(([start, end]) => {
    const bounds = [start, end].map((bound) => tape.shared(`bound ${bound}`, () => tape.ints(`${bound}`, [bound])));
    const part = tape.value(value.name, 'part', value.dtype, resized(value, axis, end - start));
    return tape.add('Slice', [value, ...bounds, axes], part);
  });
  const [only = value, ...others] = parts;
  if (others.length === 0) return only;
  const size = stretches.reduce((sum, [start, end]) => sum + end - start, 0);
  const whole = tape.value(value.name, 'parts', value.dtype, resized(value, axis, size));
  return tape.add('Concat', parts, whole, [intAttribute('axis', axis)]);
};

/** The tensor with `count` zeros behind it along an axis. */
export const withZeros = (tape: Tape, value: Value, axis: number, count: number): Value => {
  const { name, dtype, shape = [] } = value;
  const sizes = resized(value, axis, count);
  const bytes = byteLength({ dtype, shape: sizes });
  const zeros = tape.shared(`zeros ${dtype} ${sizes}`, () => tape.zeros(name, dtype, sizes, bytes));
  const filled = tape.value(name, 'filled', dtype, resized(value, axis, (shape[axis] ?? 0) + count));
  return tape.add('Concat', [value, zeros], filled, [intAttribute('axis', axis)]);
};
