import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { byteLength, DTYPES, type DType, elementCount, type HostTensor } from '#tandem/common/tensor.js';
import { sliceLayout, sliceShape, sliceTensor, type WeightSlice } from '#tandem/partition/graph/slice.js';
import { SliceCopier } from '#tandem/partition/write/slice-copy.js';
import { testDirectory } from '../support/directory.js';
import { pattern } from './read-models.js';

type Ranges = WeightSlice['ranges'];

/** Mulberry32 by Tommy Ettinger (public domain): whole numbers from 0 to `limit - 1`. */
const random = (seed: number) => {
  let state = seed >>> 0;
  return (limit: number): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
};

/** The slice, element by element, with nothing but index arithmetic. */
const naiveSlice = ({ dtype, shape, data }: HostTensor, axis: number, ranges: Ranges): Uint8Array => {
  const { bytes } = DTYPES[dtype];
  const picked = ranges.flatMap(([start, end]) => Array.from({ length: end - start }, (_, index) => start + index));
  const taken = shape.map((size, index) => (index === axis ? picked.length : size));
  const output = new Uint8Array(elementCount(taken) * bytes);
  for (let element = 0; element < elementCount(taken); element++) {
    let rest = element;
    let from = 0;
    let stride = 1;
    for (let dim = shape.length - 1; dim >= 0; dim--) {
      const size = taken[dim] ?? 1;
      const index = rest % size;
      from += (dim === axis ? (picked[index] ?? 0) : index) * stride;
      rest = Math.floor(rest / size);
      stride *= shape[dim] ?? 1;
    }
    output.set(data.subarray(from * bytes, (from + 1) * bytes), element * bytes);
  }
  return output;
};

interface Case {
  readonly tensor: HostTensor;
  readonly axis: number;
  readonly ranges: Ranges;
}

/** Any rank up to 4, any axis, up to three ranges: empty, adjacent, overlapping and out of order ones among them. */
const randomCase = (seed: number): Case => {
  const next = random(seed);
  const dtypes = Object.keys(DTYPES) as DType[];
  const dtype = dtypes[next(dtypes.length)] ?? 'float32';
  const shape = Array.from({ length: 1 + next(4) }, () => 1 + next(9));
  const axis = next(shape.length);
  const size = shape[axis] ?? 1;
  const ranges = Array.from({ length: 1 + next(3) }, (): readonly [number, number] => {
    const start = next(size + 1);
    return [start, start + next(size - start + 1)];
  });
  return { tensor: { dtype, shape, data: pattern(byteLength({ dtype, shape }), seed) }, axis, ranges };
};

const collect = (copier: SliceCopier, file: string, offset: number, slice: WeightSlice): Uint8Array => {
  const pieces: Uint8Array[] = [];
  copier.copy({ kind: 'file', file, offset }, sliceLayout(slice), (piece) => pieces.push(piece.slice()));
  return Buffer.concat(pieces);
};

test('a slice in memory has the elements that index arithmetic finds, for random shapes, axes and ranges', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const { tensor, axis, ranges } = randomCase(seed);
    const found = sliceTensor(tensor, axis, ranges);
    expect(Buffer.from(found.data).equals(naiveSlice(tensor, axis, ranges)), `seed ${seed}`).toBe(true);
    expect(byteLength(found)).toBe(found.data.byteLength);
  }
});

// Tiny buffers, so that slices fall into many blocks: rows that fit, rows that do not, and runs cut in the middle.
test.each([64, 333, 4096, 1 << 20])(
  'a slice from a file has the same bytes through buffers of %i bytes',
  (blockBytes) => {
    const folder = testDirectory();
    const copier = new SliceCopier(blockBytes);
    for (let seed = 1; seed <= 400; seed++) {
      const { tensor, axis, ranges } = randomCase(seed);
      const file = join(folder, `${seed % 8}.bin`);
      writeFileSync(file, Buffer.concat([pattern(seed % 100), tensor.data, pattern(10)]));
      const slice = { name: 'w', source: tensor, axis, ranges };
      const found = collect(copier, file, seed % 100, slice);
      expect(Buffer.from(found).equals(naiveSlice(tensor, axis, ranges)), `seed ${seed}`).toBe(true);
    }
    copier.close();
  },
);

describe('large slices', () => {
  const file = { rows: 6, columns: 300_000 };
  const tensor: HostTensor = {
    dtype: 'float16',
    shape: [file.rows, file.columns],
    data: pattern(file.rows * file.columns * 2),
  };

  // Runs of over 256 KiB are read one by one, shorter ones with their whole rows.
  test.each<[string, Ranges]>([
    ['long runs', [[0, 150_000]]],
    [
      'short runs',
      [
        [100, 10_000],
        [200_000, 230_000],
      ],
    ],
    [
      'both',
      [
        [0, 140_000],
        [150_000, 150_010],
      ],
    ],
  ])('with %s are the same from a file as in memory', (_, ranges) => {
    const path = join(testDirectory(), 'weights.bin');
    writeFileSync(path, tensor.data);
    const copier = new SliceCopier(1 << 20);
    const found = collect(copier, path, 0, { name: 'w', source: tensor, axis: 1, ranges });
    copier.close();
    expect(Buffer.from(found).equals(sliceTensor(tensor, 1, ranges).data)).toBe(true);
  });
});

test('a scalar is taken whole', () => {
  const scalar: HostTensor = { dtype: 'float32', shape: [], data: pattern(4) };
  expect(sliceTensor(scalar, -1, [[0, 1]])).toEqual(scalar);
});

test('slices that cover their tensor have one layout, along whichever axis', () => {
  const source: HostTensor = { dtype: 'int8', shape: [2, 3, 4], data: pattern(24) };
  const whole = { rows: 1, rowBytes: 24, runs: [{ start: 0, bytes: 24 }], bytes: 24 };
  for (const [axis, size] of source.shape.entries()) {
    expect(
      sliceLayout({
        name: 'w',
        source,
        axis,
        ranges: [
          [0, 1],
          [1, size],
        ],
      }),
    ).toEqual(whole);
  }
});

test('shapes follow the ranges', () => {
  const source: HostTensor = { dtype: 'int8', shape: [2, 9], data: pattern(18) };
  expect(
    sliceShape({
      name: 'w',
      source,
      axis: 1,
      ranges: [
        [0, 2],
        [6, 9],
      ],
    }),
  ).toEqual([2, 5]);
});

test.each<[number, Ranges]>([
  [2, [[0, 1]]],
  [-1, [[0, 1]]],
  [0, [[0, 3]]],
  [0, [[-1, 1]]],
  [1, [[2, 1]]],
  [1, [[0.5, 1]]],
])('axis %i with ranges %j is refused for a tensor of shape [2, 9]', (axis, ranges) => {
  const source: HostTensor = { dtype: 'int8', shape: [2, 9], data: pattern(18) };
  expect(() => sliceShape({ name: 'w', source, axis, ranges })).toThrow(
    expect.objectContaining({ code: 'SLICE_RANGE' }),
  );
});
