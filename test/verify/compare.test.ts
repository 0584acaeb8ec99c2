import { describe, expect, it } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { fromNumbers, toNumbers } from '#tandem/common/elements.js';
import { DTYPES, type DType } from '#tandem/common/tensor.js';

const tensor = (values: readonly number[], dtype: DType = 'float64') =>
  fromNumbers({ dtype, shape: [values.length] }, values);

describe('the difference of two outputs', () => {
  it('is the greatest error, also against the greatest value, and the PSNR with that value as its peak', () => {
    const difference = compareOutputs({ out: tensor([1, -4, 2.1, 0]) }, { out: tensor([1, -4, 2, 0]) });
    expect(difference.max_abs_error).toBeCloseTo(0.1, 12);
    expect(difference.max_rel_error).toBeCloseTo(0.025, 12);
    expect(difference.psnr_db).toBeCloseTo(10 * Math.log10(16 / (0.01 / 4)), 9);
  });

  it('is none where not a bit differs', () => {
    const same = { out: tensor([Number.NaN, 1, Number.POSITIVE_INFINITY]) };
    expect(compareOutputs(same, same)).toEqual({ max_abs_error: 0, max_rel_error: 0, psnr_db: 999 });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('is as large as can be where only one side is %d', (value) => {
    const difference = compareOutputs({ out: tensor([1, value]) }, { out: tensor([1, 2]) });
    expect(difference.max_rel_error).toBeGreaterThan(1e300);
    expect(JSON.parse(JSON.stringify(difference))).toEqual(difference);
    expect(difference.psnr_db).toBeLessThan(0);
  });

  it.each([Number.NaN, Number.NEGATIVE_INFINITY])('is an error where the whole model gives nothing but %d', (value) => {
    const nothing = { out: tensor([value, value]) };
    expect(() => compareOutputs(nothing, nothing)).toThrow(/"out" is NaN or infinite throughout/);
  });

  it('takes the worst of several outputs', () => {
    const expected = { a: tensor([1, 1]), b: tensor([100, 0]) };
    const difference = compareOutputs({ a: tensor([1, 1.5]), b: tensor([99, 0]) }, expected);
    expect(difference).toMatchObject({ max_abs_error: 1, max_rel_error: 0.5 });
  });

  it('is an error where an output is missing or has another shape', () => {
    expect(() => compareOutputs({}, { out: tensor([1]) })).toThrow(/"out" to be float64\[1\]; found nothing/);
    expect(() => compareOutputs({ out: tensor([1, 2]) }, { out: tensor([1]) })).toThrow(/found float64\[2\]/);
  });
});

describe("a tensor's elements", () => {
  it.each(Object.keys(DTYPES) as DType[])('survive the way to bytes and back as %s', (dtype) => {
    const values = dtype === 'bool' ? [0, 1, 1] : [0, 1, 96];
    expect([...toNumbers(tensor(values, dtype))]).toEqual(values);
  });

  it('are rounded to the type', () => {
    const [half] = toNumbers(tensor([0.1], 'float16'));
    expect(half).toBeCloseTo(0.1, 4);
    expect(half).not.toBe(0.1);
  });

  it('must fill the shape', () => {
    expect(() => toNumbers({ dtype: 'float32', shape: [3], data: new Uint8Array(8) })).toThrow(
      /Expected 12 bytes.*found 8/,
    );
  });
});
