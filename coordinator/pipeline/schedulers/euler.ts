/**
 * Euler's method on the probability-flow ODE in sigmas: "Elucidating the Design Space of Diffusion-Based Generative
 * Models", arXiv 2206.00364, algorithm 2 without churn; `EulerDiscreteScheduler` in diffusers. SDXL's default.
 */
import { z } from 'zod';
import { at, f32, linspace } from './float32.js';
import { zeroSnrKeys } from './noise-schedule.js';
import { denoisedInSigmas, predictionType } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { along, atUnitVariance, sigmaLevelKeys, sigmaLevels, slopeOf, startSigma } from './sigma-levels.js';

export const eulerConfig = z.object({
  ...sigmaLevelKeys,
  ...zeroSnrKeys,
  prediction_type: predictionType,
  interpolation_type: z.enum(['linear', 'log_linear']).default('linear'),
  timestep_type: z.enum(['discrete', 'continuous']).default('discrete'),
  final_sigmas_type: z.enum(['zero', 'sigma_min']).default('zero'),
});
export type EulerConfig = z.infer<typeof eulerConfig>;

interface Levels {
  readonly timesteps: readonly number[];
  /** One more than timesteps: the last is where the image ends. */
  readonly sigmas: Float32Array;
}

/** Levels evenly spaced in their logarithm, without regard to the timesteps: one more than steps, as diffusers has it. */
const logLinear = (training: Float32Array, count: number): number[] =>
  linspace(Math.log(at(training, training.length - 1)), Math.log(at(training, 0)), count + 1).map(Math.exp);

const levelsOf = (config: EulerConfig, count: number): Levels => {
  const own = (training: Float32Array): number[] => logLinear(training, count);
  const spaced = sigmaLevels(config, count, config.interpolation_type === 'log_linear' ? own : undefined);
  const end = config.final_sigmas_type === 'zero' ? 0 : at(spaced.training, 0);
  const sigmas = Float32Array.from([...spaced.sigmas, end]);
  // Continuous v-prediction models (EDM preconditioning) are conditioned on log(sigma) / 4 and not on a timestep.
  if (config.timestep_type === 'continuous' && config.prediction_type === 'v_prediction')
    return { sigmas, timesteps: [...sigmas.subarray(0, -1)].map((sigma) => f32(0.25 * f32(Math.log(sigma)))) };
  return { sigmas, timesteps: spaced.timesteps };
};

/** Makes the schedule of one image. */
export const createEuler = (config: EulerConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const { timesteps, sigmas } = levelsOf(config, numInferenceSteps);
  return {
    timesteps,
    initNoiseSigma: startSigma(sigmas, config.timestep_spacing),
    scaleModelInput: (sample, index) => atUnitVariance(sample, at(sigmas, index)),
    step(modelOutput, index, sample) {
      const sigma = at(sigmas, index);
      const original = denoisedInSigmas(config.prediction_type, modelOutput, sample, sigma);
      return along(sample, slopeOf(sample, original, sigma), f32(at(sigmas, index + 1) - sigma));
    },
  };
};
