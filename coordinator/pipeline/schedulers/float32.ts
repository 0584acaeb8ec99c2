/**
 * Float32 arithmetic for schedules. Schedules mix float32 tensors and float64 scalars in PyTorch; `f32` marks the places
 * where a value is rounded, so that ours are the same numbers and not merely close ones.
 */

/** Rounds to the nearest float32. */
export const f32 = Math.fround;

/** Rounds halves to even, as NumPy and PyTorch do; `Math.round` rounds them up. */
export const roundHalfEven = (value: number): number => {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
};

/** The element at `index`; a schedule that is read outside its range is a mistake in this folder. */
export const at = (values: ArrayLike<number>, index: number): number => {
  const value = values[index];
  if (value === undefined) throw new RangeError(`Index ${index} is outside a schedule of ${values.length} values.`);
  return value;
};

/** `count` values from `start` to `stop`, both included, in float64 (NumPy's `linspace`). */
export const linspace = (start: number, stop: number, count: number): number[] => {
  if (count === 1) return [start];
  const step = (stop - start) / (count - 1);
  return Array.from({ length: count }, (_, index) => (index === count - 1 ? stop : start + index * step));
};

/** Applies `combine` to each pair of elements, rounding each result to float32. */
export const zipWith = (
  left: Float32Array,
  right: Float32Array,
  combine: (left: number, right: number) => number,
): Float32Array => left.map((value, index) => combine(value, at(right, index)));

/** `a * left + b * right`, elementwise, with both products rounded as separate float32 operations. */
export const linearCombination = (a: number, left: Float32Array, b: number, right: Float32Array): Float32Array =>
  zipWith(left, right, (x, y) => f32(a * x) + f32(b * y));

/** A factor and what it multiplies. */
export type Weighted = readonly [weight: number, values: Float32Array];

/** The sum of weighted terms, elementwise and in their order, with each product and each sum rounded to float32. */
export const weightedSum = (terms: readonly Weighted[], length: number): Float32Array =>
  terms.reduce<Float32Array>(
    (sum, [weight, values]) => zipWith(sum, values, (total, value) => total + f32(f32(weight) * value)),
    new Float32Array(length),
  );
