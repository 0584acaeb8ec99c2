/**
 * Multistep consistency sampling: "Latent Consistency Models", arXiv 2310.04378, algorithm 3; `LCMScheduler` in diffusers.
 * Every step but the last adds fresh noise.
 */
import { z } from 'zod';
import { distilledKeys, distilledTimesteps } from './distilled-timesteps.js';
import { at, f32, linearCombination } from './float32.js';
import { alphaProducts, latentBetaKeys, noiseScheduleKeys, zeroSnrKeys } from './noise-schedule.js';
import { denoised, predictionType, scalesOf } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { clippingKeys, thresholdingKeys, withinBounds } from './thresholding.js';

export const lcmConfig = z.object({
  ...noiseScheduleKeys,
  ...zeroSnrKeys,
  ...latentBetaKeys,
  ...thresholdingKeys,
  ...clippingKeys,
  ...distilledKeys,
  beta_schedule: noiseScheduleKeys.beta_schedule.unwrap().default('scaled_linear'),
  clip_sample: z.boolean().default(false),
  prediction_type: predictionType,
});
export type LcmConfig = z.infer<typeof lcmConfig>;

/** Standard deviation of the data that the boundary condition assumes (arXiv 2310.04378, section 4). */
const SIGMA_DATA = 0.5;

/** Makes the schedule of one image. */
export const createLcm = (config: LcmConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
  const timesteps = distilledTimesteps(config, numInferenceSteps);

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const timestep = at(timesteps, index);
      const scales = scalesOf(at(products, timestep));
      const original = withinBounds(config, denoised(config.prediction_type, modelOutput, sample, scales));
      const scaled = timestep * config.timestep_scaling;
      const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
      const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
      const result = linearCombination(f32(out), original, f32(skip), sample);
      if (index === timesteps.length - 1) return result;
      const next = scalesOf(at(products, at(timesteps, index + 1)));
      return linearCombination(next.alpha, result, next.sigma, noise());
    },
  };
};
