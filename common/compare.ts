/** How far two sets of outputs are apart. */

import { toNumbers } from './elements.js';
import { TandemError } from './errors.js';
import type { HostTensor } from './tensor.js';

export interface Difference {
  /** max |a - b| over all outputs */
  readonly max_abs_error: number;
  /** max |a - b| / max |b|, the greatest of the outputs' own */
  readonly max_rel_error: number;
  /** Peak signal to noise with max |b| as the peak, the least of the outputs' own; 999 where not a bit differs. */
  readonly psnr_db: number;
}

/** JSON knows no infinity. */
const MAX_PSNR_DB = 999;
const MAX_ERROR = Number.MAX_VALUE;

const compareTensor = (actual: Float64Array, expected: Float64Array): Difference => {
  let maxError = 0;
  let peak = 0;
  let squares = 0;
  for (let index = 0; index < expected.length; index++) {
    const [a = 0, b = 0] = [actual[index], expected[index]];
    // The same infinity or NaN on both sides is agreement; on one side it is as wrong as can be.
    const error = Object.is(a, b) ? 0 : Math.abs(a - b);
    maxError = Math.max(maxError, Number.isFinite(error) ? error : MAX_ERROR);
    if (Number.isFinite(b)) peak = Math.max(peak, Math.abs(b));
    squares += error * error;
  }
  if (maxError === 0) return { max_abs_error: 0, max_rel_error: 0, psnr_db: MAX_PSNR_DB };
  const meanSquare = squares / expected.length;
  const psnr = Number.isFinite(meanSquare) && peak > 0 ? 10 * Math.log10((peak * peak) / meanSquare) : -MAX_PSNR_DB;
  return {
    max_abs_error: maxError,
    max_rel_error: Math.min(MAX_ERROR, maxError / Math.max(peak, Number.MIN_VALUE)),
    psnr_db: Math.min(MAX_PSNR_DB, psnr),
  };
};

/** Where all is NaN or infinite, agreement would prove nothing. */
const checkSomeFinite = (name: string, expected: Float64Array): void => {
  if (expected.length === 0 || expected.some(Number.isFinite)) return;
  throw new TandemError(
    'REFERENCE_NOT_FINITE',
    `Expected numbers from the whole model to compare with; its output "${name}" is NaN or infinite throughout. Half precision often overflows so: export the model as float32, or give inputs of its own range.`,
  );
};

/**
 * Compares outputs by name.
 * @param expected the reference `b`
 * @throws TandemError `OUTPUTS_DIFFER` where an output is missing or has another shape or type, `REFERENCE_NOT_FINITE`
 */
export const compareOutputs = (
  actual: Readonly<Record<string, HostTensor>>,
  expected: Readonly<Record<string, HostTensor>>,
): Difference => {
  const differences = Object.entries(expected).map(([name, reference]) => {
    const found = actual[name];
    if (found?.dtype !== reference.dtype || found.shape.join() !== reference.shape.join()) {
      const have = found ? `${found.dtype}[${found.shape.join(', ')}]` : 'nothing';
      const message = `Expected the workers' output "${name}" to be ${reference.dtype}[${reference.shape.join(', ')}]; found ${have}.`;
      throw new TandemError('OUTPUTS_DIFFER', message);
    }
    const expectedNumbers = toNumbers(reference);
    checkSomeFinite(name, expectedNumbers);
    return compareTensor(toNumbers(found), expectedNumbers);
  });
  return {
    max_abs_error: Math.max(0, ...differences.map((difference) => difference.max_abs_error)),
    max_rel_error: Math.max(0, ...differences.map((difference) => difference.max_rel_error)),
    psnr_db: Math.min(MAX_PSNR_DB, ...differences.map((difference) => difference.psnr_db)),
  };
};
