/**
 * Euler's method on the probability-flow ODE in sigmas: "Elucidating the Design Space of Diffusion-Based Generative
 * Models", arXiv 2206.00364, algorithm 2 without churn; `EulerDiscreteScheduler` in diffusers. SDXL's default.
 */
import { z } from 'zod';
import { at, f32, zipWith } from './float32.js';
import { noiseScheduleKeys, trainingSigmas } from './noise-schedule.js';
import { disabledFlag, predictionType, sigmaRangeKeys, sigmaSpacing, sigmaSpacingKeys } from './options.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { exponentialSigmas, interpolateSigmas, karrasSigmas, timestepOfSigma } from './sigmas.js';
import { spacedTimesteps, timestepSpacing } from './timestep-spacing.js';

export const eulerConfig = z.object({
  ...noiseScheduleKeys,
  ...sigmaSpacingKeys,
  ...sigmaRangeKeys,
  prediction_type: predictionType,
  interpolation_type: z.literal('linear').default('linear'),
  timestep_spacing: timestepSpacing.default('linspace'),
  timestep_type: z.enum(['discrete', 'continuous']).default('discrete'),
  steps_offset: z.number().int().default(0),
  final_sigmas_type: z.enum(['zero', 'sigma_min']).default('zero'),
  thresholding: disabledFlag('thresholding'),
});
export type EulerConfig = z.infer<typeof eulerConfig>;

interface Levels {
  readonly timesteps: readonly number[];
  /** One more than timesteps: the last is where the image ends. */
  readonly sigmas: Float32Array;
}

/** Sigmas and timesteps before the final sigma, by the spacing that the config asks for. */
const spacedLevels = (
  config: EulerConfig,
  training: Float32Array,
  count: number,
): { sigmas: number[]; timesteps: number[] } => {
  const timesteps = spacedTimesteps({
    spacing: config.timestep_spacing,
    numTrainTimesteps: config.num_train_timesteps,
    numInferenceSteps: count,
    stepsOffset: config.steps_offset,
  }).map(f32);
  const interpolated = interpolateSigmas(timesteps, training);
  const max = config.sigma_max ?? at(interpolated, 0);
  const min = config.sigma_min ?? at(interpolated, interpolated.length - 1);
  const spacing = sigmaSpacing(config);
  if (spacing === 'timesteps') return { sigmas: interpolated, timesteps };
  const sigmas = spacing === 'karras' ? karrasSigmas(max, min, count) : exponentialSigmas(max, min, count);
  const logTraining = training.map(Math.log);
  return { sigmas, timesteps: sigmas.map((sigma) => f32(timestepOfSigma(sigma, logTraining))) };
};

const levelsOf = (config: EulerConfig, count: number): Levels => {
  const training = trainingSigmas(config);
  const spaced = spacedLevels(config, training, count);
  const sigmas = Float32Array.from([...spaced.sigmas, config.final_sigmas_type === 'zero' ? 0 : at(training, 0)]);
  // Continuous v-prediction models (EDM preconditioning) are conditioned on log(sigma) / 4 and not on a timestep.
  if (config.timestep_type === 'continuous' && config.prediction_type === 'v_prediction')
    return { sigmas, timesteps: [...sigmas.subarray(0, -1)].map((sigma) => f32(0.25 * f32(Math.log(sigma)))) };
  return { sigmas, timesteps: spaced.timesteps };
};

const denoised = (config: EulerConfig, output: Float32Array, sample: Float32Array, sigma: number): Float32Array => {
  switch (config.prediction_type) {
    case 'epsilon':
      return zipWith(sample, output, (x, noise) => x - f32(sigma * noise));
    case 'sample':
      return output;
    case 'v_prediction': {
      const variance = f32(f32(sigma * sigma) + 1);
      const factor = f32(-sigma / f32(Math.sqrt(variance)));
      return zipWith(sample, output, (x, velocity) => f32(velocity * factor) + f32(x / variance));
    }
    default:
      return config.prediction_type satisfies never;
  }
};

/** Makes the schedule of one image. */
export const createEuler = (config: EulerConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const { timesteps, sigmas } = levelsOf(config, numInferenceSteps);
  const max = sigmas.reduce((left, right) => Math.max(left, right));
  const startsAtFullNoise = config.timestep_spacing !== 'leading';
  return {
    timesteps,
    initNoiseSigma: startsAtFullNoise ? max : f32(Math.sqrt(f32(f32(max * max) + 1))),
    scaleModelInput(sample, index) {
      const sigma = at(sigmas, index);
      const divisor = f32(Math.sqrt(f32(f32(sigma * sigma) + 1)));
      return sample.map((value) => value / divisor);
    },
    step(modelOutput, index, sample) {
      const sigma = at(sigmas, index);
      const original = denoised(config, modelOutput, sample, sigma);
      const change = f32(at(sigmas, index + 1) - sigma);
      return zipWith(sample, original, (x, x0) => x + f32(f32(f32(x - x0) / sigma) * change));
    },
  };
};
