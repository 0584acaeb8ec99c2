/**
 * DDIM, deterministic (eta 0): "Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12; `DDIMScheduler` in
 * diffusers. The default of many Stable Diffusion exports.
 */
import { z } from 'zod';
import { at, linearCombination, roundHalfEven } from './float32.js';
import { alphaProducts, noiseScheduleKeys, zeroSnrKeys } from './noise-schedule.js';
import { denoised, noiseIn, predictionType, scalesOf } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { stepsOffset } from './shared-options.js';
import { clippingKeys, thresholdingKeys, withinBounds } from './thresholding.js';
import { checkTimesteps, spacedTimesteps, timestepSpacing } from './timestep-spacing.js';

export const ddimConfig = z.object({
  ...noiseScheduleKeys,
  ...zeroSnrKeys,
  ...thresholdingKeys,
  ...clippingKeys,
  clip_sample: z.boolean().default(true),
  set_alpha_to_one: z.boolean().default(true),
  steps_offset: stepsOffset,
  prediction_type: predictionType,
  timestep_spacing: timestepSpacing.default('leading'),
});
export type DdimConfig = z.infer<typeof ddimConfig>;

/** Makes the schedule of one image. */
export const createDdim = (config: DdimConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
  const finalProduct = config.set_alpha_to_one ? 1 : at(products, 0);
  const stride = Math.floor(config.num_train_timesteps / numInferenceSteps);
  const spaced = spacedTimesteps({
    spacing: config.timestep_spacing,
    numTrainTimesteps: config.num_train_timesteps,
    numInferenceSteps,
    stepsOffset: config.steps_offset,
  }).map(roundHalfEven);
  const timesteps = checkTimesteps(spaced, config.num_train_timesteps);

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample) {
      const timestep = at(timesteps, index);
      // The previous timestep is one stride below, whatever the spacing: with `trailing` it is not the next in the list.
      const previousTimestep = timestep - stride;
      const previous = previousTimestep >= 0 ? at(products, previousTimestep) : finalProduct;
      const scales = scalesOf(at(products, timestep));
      const original = withinBounds(config, denoised(config.prediction_type, modelOutput, sample, scales));
      const epsilon = noiseIn(config.prediction_type, modelOutput, sample, scales);
      const target = scalesOf(previous);
      return linearCombination(target.alpha, original, target.sigma, epsilon);
    },
  };
};
