/**
 * Quantiles of the Beta(0.6, 0.6) distribution, for the beta spacing of noise levels. Own numerics, because this one symmetric
 * case is a power series and a bisection, where a library of distributions brings a hundred packages for every case: the
 * distribution function is a multiple of `x^a 2F1(a, 1 - a; a + 1; x)` (NIST DLMF 8.17.7), half of it lies below 1/2, which
 * fixes the multiple without a gamma function, and the upper half is the mirror image.
 */

const SHAPE = 0.6;

/** Below 1/2, each term is less than half of the one before: 60 terms are more than float64 holds. */
const TERMS = 60;

/** Steps of a bisection of [0, 1/2] down to the last bit of the smallest quantiles that are asked for. */
const HALVINGS = 200;

const unscaledBelowHalf = (x: number): number => {
  let term = 1;
  let sum = 0;
  for (let index = 0; index < TERMS; index++) {
    sum += term / (SHAPE + index);
    term *= ((1 - SHAPE + index) * x) / (index + 1);
  }
  return x ** SHAPE * sum;
};

const TWICE_HALF = 2 * unscaledBelowHalf(0.5);

/**
 * @param probability from 0 to 1
 * @returns the value below which that much of the distribution lies
 */
export const betaQuantile = (probability: number): number => {
  if (probability > 0.5) return 1 - betaQuantile(1 - probability);
  let low = 0;
  let high = 0.5;
  for (let halving = 0; halving < HALVINGS; halving++) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (unscaledBelowHalf(middle) / TWICE_HALF < probability) low = middle;
    else high = middle;
  }
  return probability === 0 ? 0 : high;
};
