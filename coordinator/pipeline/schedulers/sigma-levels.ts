/**
 * Noise levels of the solvers that work in sigmas, as k-diffusion does: Euler, Heun, LMS, DPM2 and DPM++ SDE. They share the
 * spacing of their levels, the scaling of the network's input and the strength of the first noise.
 */
import { at, f32 } from './float32.js';
import { type NoiseScheduleConfig, noiseScheduleKeys, trainingSigmas } from './noise-schedule.js';
import { sigmaRangeKeys, sigmaSpacing, sigmaSpacingKeys, stepsOffset } from './shared-options.js';
import { interpolateSigmas, spacedSigmas, timestepOfSigma } from './sigmas.js';
import { spacedTimesteps, type TimestepSpacing, timestepSpacing } from './timestep-spacing.js';

export const sigmaLevelKeys = {
  ...noiseScheduleKeys,
  ...sigmaSpacingKeys,
  ...sigmaRangeKeys,
  timestep_spacing: timestepSpacing.default('linspace'),
  steps_offset: stepsOffset,
} as const;

export interface SigmaLevelConfig extends NoiseScheduleConfig {
  readonly use_karras_sigmas?: boolean | null;
  readonly use_exponential_sigmas?: boolean | null;
  readonly use_beta_sigmas?: boolean | null;
  readonly sigma_min?: number | null;
  readonly sigma_max?: number | null;
  readonly timestep_spacing: TimestepSpacing;
  readonly steps_offset: number;
}

/** Levels before the end of the image, in float64, and their timesteps, one each. */
export interface SigmaLevels {
  readonly sigmas: readonly number[];
  readonly timesteps: readonly number[];
  /** The training schedule that they were taken from, ascending. */
  readonly training: Float32Array;
  /** The fractional training timestep of any sigma. */
  timestepOf(sigma: number): number;
}

/**
 * Levels by the spacing that the config asks for.
 * @param levels in place of those of the timesteps, from noise to picture
 */
export const sigmaLevels = (
  config: SigmaLevelConfig,
  count: number,
  levels?: (training: Float32Array) => number[],
): SigmaLevels => {
  const training = trainingSigmas(config);
  const logTraining = training.map(Math.log);
  const timestepOf = (sigma: number): number => f32(timestepOfSigma(sigma, logTraining));
  const timesteps = spacedTimesteps({
    spacing: config.timestep_spacing,
    numTrainTimesteps: config.num_train_timesteps,
    numInferenceSteps: count,
    stepsOffset: config.steps_offset,
  }).map(f32);
  const own = levels?.(training) ?? interpolateSigmas(timesteps, training);
  const spacing = sigmaSpacing(config);
  if (spacing === 'timesteps') return { sigmas: own, timesteps, training, timestepOf };
  const max = config.sigma_max ?? at(own, 0);
  const min = config.sigma_min ?? at(own, own.length - 1);
  const sigmas = spacedSigmas(spacing, max, min, count);
  return { sigmas, timesteps: sigmas.map(timestepOf), training, timestepOf };
};

/** Standard deviation of the first latents. */
export const startSigma = (sigmas: Float32Array, spacing: TimestepSpacing): number => {
  const max = sigmas.reduce((left, right) => Math.max(left, right));
  return spacing === 'leading' ? f32(Math.sqrt(f32(f32(max * max) + 1))) : max;
};

/** The latents at a variance of 1, as the network was trained. */
export const atUnitVariance = (sample: Float32Array, sigma: number): Float32Array => {
  const divisor = f32(Math.sqrt(f32(f32(sigma * sigma) + 1)));
  return sample.map((value) => value / divisor);
};

/** One Euler step along the slope `(sample - original) / sigma`, by `change` in sigma, from `base`. */
export const slopeOf = (sample: Float32Array, original: Float32Array, sigma: number): Float32Array =>
  sample.map((x, index) => f32(x - at(original, index)) / sigma);

export const along = (base: Float32Array, slope: Float32Array, change: number): Float32Array =>
  base.map((x, index) => x + f32(at(slope, index) * change));

/** Adds fresh noise of a strength. */
export const withNoise = (sample: Float32Array, noise: Float32Array, strength: number): Float32Array =>
  along(sample, noise, strength);

/** How an ancestral step down to `to` is made of a longer one and fresh noise (k-diffusion's `get_ancestral_step`). */
export const ancestralStep = (from: number, to: number): { readonly down: number; readonly up: number } => {
  const [from2, to2] = [f32(from * from), f32(to * to)];
  const up = f32(Math.sqrt(f32(f32(to2 * f32(from2 - to2)) / from2)));
  const rest = f32(to2 - f32(up * up));
  // Where rounding leaves nothing of the difference, its algebra does: diffusers' square root of a negative number ends in NaN.
  return { down: rest > 0 ? f32(Math.sqrt(rest)) : f32(to2 / from), up };
};
