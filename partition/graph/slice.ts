/**
 * Slices of tensors along one axis: what a rank has of a weight. A slice is several ranges of its axis, one behind the
 * other, so that each part of a fused weight can be split by itself.
 *
 * In row-major order the tensor is rows of equal size, a row being everything from the sliced axis inwards, and the slice
 * is the same runs of bytes from every row.
 */
import { TandemError } from '../../common/errors.js';
import { byteLength, DTYPES, type DType, elementCount, type HostTensor } from '../../common/tensor.js';
import type { WeightSource } from '../read/index.js';

/** A tensor at hand, for constants that the partitioner made. */
export type InlineSource = HostTensor;

export interface WeightSlice {
  /** Of the tensor, for messages. */
  readonly name: string;
  readonly source: WeightSource | InlineSource;
  /** Counted from the front; -1 for a scalar, which is taken whole. */
  readonly axis: number;
  /** `[start, end)` along the axis, concatenated in this order; `[[0, shape[axis]]]` for all of it. */
  readonly ranges: readonly (readonly [start: number, end: number])[];
}

/** A run of bytes within a row. */
export interface Run {
  readonly start: number;
  readonly bytes: number;
}

/** Where the bytes of a slice lie in those of its source. */
export interface SliceLayout {
  readonly rows: number;
  /** Bytes from one row's start to the next one's. */
  readonly rowBytes: number;
  readonly runs: readonly Run[];
  /** Size of the slice. */
  readonly bytes: number;
}

type Spec = { readonly dtype: DType; readonly shape: readonly number[] };

/**
 * Shape of a slice.
 * @throws TandemError SLICE_RANGE when the axis or a range lies outside the tensor
 */
export const sliceShape = ({ name, source, axis, ranges }: WeightSlice): readonly number[] => {
  checkRanges(name, source.shape, axis, ranges);
  return source.shape.map((size, index) => (index === axis ? lengthOf(ranges) : size));
};

/**
 * Layout of a slice; adjacent ranges are one run, and a slice that takes whole rows is one row.
 * @throws TandemError SLICE_RANGE when the axis or a range lies outside the tensor
 */
export const sliceLayout = ({ name, source, axis, ranges }: WeightSlice): SliceLayout => {
  checkRanges(name, source.shape, axis, ranges);
  if (axis === -1) return wholeLayout(byteLength(source));
  const rows = elementCount(source.shape.slice(0, axis));
  const stepBytes = elementCount(source.shape.slice(axis + 1)) * DTYPES[source.dtype].bytes;
  const rowBytes = (source.shape[axis] ?? 0) * stepBytes;
  const runs = mergeRuns(
    ranges.map(([start, end]) => ({ start: start * stepBytes, bytes: (end - start) * stepBytes })),
  );
  const [only] = runs;
  if (runs.length === 1 && only?.bytes === rowBytes) return wholeLayout(rows * rowBytes);
  return { rows, rowBytes, runs, bytes: rows * runs.reduce((sum, run) => sum + run.bytes, 0) };
};

/**
 * A slice of a tensor in memory.
 * @throws TandemError SLICE_RANGE when the axis or a range lies outside the tensor
 */
export const sliceTensor = (tensor: HostTensor, axis: number, ranges: WeightSlice['ranges']): HostTensor => {
  const slice = { name: '', source: tensor, axis, ranges };
  const layout = sliceLayout(slice);
  const data = new Uint8Array(layout.bytes);
  gather(tensor.data, layout, data);
  return { dtype: tensor.dtype, shape: sliceShape(slice), data };
};

/** A call into the runtime for each run costs more than the bytes of a short one. */
const SHORT_RUN_BYTES = 32;

/** Copies the layout's runs out of `input`, whose first byte is that of the first row, to the start of `output`. */
export const gather = (
  input: Uint8Array,
  { rows, rowBytes, runs }: Pick<SliceLayout, 'rows' | 'rowBytes' | 'runs'>,
  output: Uint8Array,
): void => {
  let to = 0;
  for (let row = 0; row < rows; row++) {
    for (const { start, bytes } of runs) {
      copyRun(input, row * rowBytes + start, bytes, output, to);
      to += bytes;
    }
  }
};

const copyRun = (input: Uint8Array, from: number, bytes: number, output: Uint8Array, to: number): void => {
  if (bytes > SHORT_RUN_BYTES) return output.set(input.subarray(from, from + bytes), to);
  for (let index = 0; index < bytes; index++) output[to + index] = input[from + index] ?? 0;
};

const wholeLayout = (bytes: number): SliceLayout => ({
  rows: 1,
  rowBytes: bytes,
  runs: bytes === 0 ? [] : [{ start: 0, bytes }],
  bytes,
});

const lengthOf = (ranges: WeightSlice['ranges']): number => ranges.reduce((sum, [start, end]) => sum + end - start, 0);

const mergeRuns = (runs: readonly Run[]): readonly Run[] => {
  const merged: Run[] = [];
  for (const run of runs) {
    const last = merged.at(-1);
    if (run.bytes === 0) continue;
    if (last && last.start + last.bytes === run.start)
      merged[merged.length - 1] = { ...last, bytes: last.bytes + run.bytes };
    else merged.push(run);
  }
  return merged;
};

const checkRanges = (name: string, shape: Spec['shape'], axis: number, ranges: WeightSlice['ranges']): void => {
  const size = axis === -1 && shape.length === 0 ? undefined : shape[axis];
  const isScalar = axis === -1 && shape.length === 0;
  const fits = ([start, end]: readonly [number, number]) =>
    Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= (size ?? -1);
  if (isScalar || (size !== undefined && ranges.every(fits))) return;
  throw new TandemError(
    'SLICE_RANGE',
    `Slice "${name}" takes ${JSON.stringify(ranges)} along axis ${axis}, which a tensor of shape [${shape}] does not have.`,
  );
};
