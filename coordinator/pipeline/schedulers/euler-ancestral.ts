/**
 * Euler's method with ancestral noise: each step goes further down than asked and is lifted again by fresh noise (k-diffusion's
 * `sample_euler_ancestral`); `EulerAncestralDiscreteScheduler` in diffusers. SDXL-Turbo's default.
 */
import { z } from 'zod';
import { at, f32 } from './float32.js';
import { noiseScheduleKeys, zeroSnrKeys } from './noise-schedule.js';
import { denoisedInSigmas, noiseOrVelocity } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { stepsOffset } from './shared-options.js';
import { along, ancestralStep, atUnitVariance, sigmaLevels, slopeOf, startSigma, withNoise } from './sigma-levels.js';
import { timestepSpacing } from './timestep-spacing.js';

export const eulerAncestralConfig = z.object({
  ...noiseScheduleKeys,
  ...zeroSnrKeys,
  prediction_type: noiseOrVelocity,
  timestep_spacing: timestepSpacing.default('linspace'),
  steps_offset: stepsOffset,
});
export type EulerAncestralConfig = z.infer<typeof eulerAncestralConfig>;

/** Makes the schedule of one image. */
export const createEulerAncestral = (
  config: EulerAncestralConfig,
  { numInferenceSteps }: ScheduleRequest,
): Scheduler => {
  const spaced = sigmaLevels(config, numInferenceSteps);
  const sigmas = Float32Array.from([...spaced.sigmas, 0]);
  return {
    timesteps: spaced.timesteps,
    initNoiseSigma: startSigma(sigmas, config.timestep_spacing),
    scaleModelInput: (sample, index) => atUnitVariance(sample, at(sigmas, index)),
    step(modelOutput, index, sample, noise) {
      const sigma = at(sigmas, index);
      const { down, up } = ancestralStep(sigma, at(sigmas, index + 1));
      const original = denoisedInSigmas(config.prediction_type, modelOutput, sample, sigma);
      return withNoise(along(sample, slopeOf(sample, original, sigma), f32(down - sigma)), noise(), up);
    },
  };
};
