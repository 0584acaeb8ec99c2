/** Noise levels between the training timesteps, and the spacings of noise levels that replace a spacing of timesteps. */
import { betaQuantile } from './beta-quantile.js';
import { at, f32, linspace } from './float32.js';
import type { SigmaSpacing } from './shared-options.js';

/** Exponent of the Karras spacing (arXiv 2206.00364, equation 5). */
const KARRAS_RHO = 7;

/** Sigmas at fractional timesteps, interpolated linearly and held at both ends, in float64. */
export const interpolateSigmas = (timesteps: readonly number[], trainingSigmas: Float32Array): number[] =>
  timesteps.map((timestep) => {
    const last = trainingSigmas.length - 1;
    if (timestep <= 0) return at(trainingSigmas, 0);
    if (timestep >= last) return at(trainingSigmas, last);
    const low = Math.floor(timestep);
    const start = at(trainingSigmas, low);
    return (at(trainingSigmas, low + 1) - start) * (timestep - low) + start;
  });

/** `count` sigmas from `max` down to `min`, dense near `min` (arXiv 2206.00364, equation 5). */
export const karrasSigmas = (max: number, min: number, count: number): number[] => {
  const maxRoot = max ** (1 / KARRAS_RHO);
  const minRoot = min ** (1 / KARRAS_RHO);
  return linspace(0, 1, count).map((ramp) => (maxRoot + ramp * (minRoot - maxRoot)) ** KARRAS_RHO);
};

/** `count` sigmas from `max` down to `min`, evenly spaced in their logarithm. */
export const exponentialSigmas = (max: number, min: number, count: number): number[] =>
  linspace(Math.log(max), Math.log(min), count).map(Math.exp);

/** `count` sigmas from `max` down to `min`, dense near both: the quantiles of a Beta(0.6, 0.6) ("Beta Sampling is All You Need", arXiv 2407.12173). */
export const betaSigmas = (max: number, min: number, count: number): number[] =>
  linspace(0, 1, count).map((ramp) => min + betaQuantile(1 - ramp) * (max - min));

/** `count` sigmas in a spacing of their own. */
export const spacedSigmas = (
  spacing: Exclude<SigmaSpacing, 'timesteps'>,
  max: number,
  min: number,
  count: number,
): number[] => {
  switch (spacing) {
    case 'karras':
      return karrasSigmas(max, min, count);
    // Lu's spacing is Karras' in log sigmas with an exponent of 1 (arXiv 2211.01095): an exponential one by another name.
    case 'lu':
    case 'exponential':
      return exponentialSigmas(max, min, count);
    case 'beta':
      return betaSigmas(max, min, count);
    default:
      return spacing satisfies never;
  }
};

/** Index of the last ascending value that is not above `wanted`, at most the last but one; 0 where all are above. */
const lowerNeighbour = (ascending: Float32Array, wanted: number): number => {
  let low = 0;
  let high = ascending.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (at(ascending, middle) <= wanted) low = middle;
    else high = middle;
  }
  return low;
};

/** The fractional timestep whose sigma this is, by linear interpolation of log sigmas. */
export const timestepOfSigma = (sigma: number, logTrainingSigmas: Float32Array): number => {
  const logSigma = Math.log(Math.max(sigma, 1e-10));
  const index = lowerNeighbour(logTrainingSigmas, logSigma);
  const low = at(logTrainingSigmas, index);
  const width = f32(low - at(logTrainingSigmas, index + 1));
  const weight = Math.min(1, Math.max(0, (low - logSigma) / width));
  return (1 - weight) * index + weight * (index + 1);
};
