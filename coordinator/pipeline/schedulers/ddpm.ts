/**
 * Ancestral sampling: "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, equations 6 and 7; `DDPMScheduler` in diffusers.
 * Every step but that at timestep 0 adds fresh noise.
 */
import { z } from 'zod';
import { at, f32, linearCombination, roundHalfEven } from './float32.js';
import { alphaProducts, noiseScheduleKeys, zeroSnrKeys } from './noise-schedule.js';
import { denoised, predictionType, scalesOf } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { stepsOffset } from './shared-options.js';
import { withNoise } from './sigma-levels.js';
import { clippingKeys, thresholdingKeys, withinBounds } from './thresholding.js';
import { checkTimesteps, spacedTimesteps, timestepSpacing } from './timestep-spacing.js';

export const ddpmConfig = z.object({
  ...noiseScheduleKeys,
  ...zeroSnrKeys,
  ...thresholdingKeys,
  ...clippingKeys,
  // Learned variances need a network with twice the channels; the logarithm of the large one is not a variance.
  variance_type: z.enum(['fixed_small', 'fixed_small_log', 'fixed_large']).default('fixed_small'),
  clip_sample: z.boolean().default(true),
  steps_offset: stepsOffset,
  prediction_type: predictionType,
  timestep_spacing: timestepSpacing.default('leading'),
});
export type DdpmConfig = z.infer<typeof ddpmConfig>;

const MIN_VARIANCE = 1e-20;

/** What a step from one alpha product to the next keeps of sample and denoised sample, and the strength of its noise. */
const weightsOf = (
  product: number,
  previous: number,
  varianceType: DdpmConfig['variance_type'],
): { readonly original: number; readonly sample: number; readonly noise: number } => {
  const alpha = f32(product / previous);
  const beta = f32(1 - alpha);
  const [rest, previousRest] = [f32(1 - product), f32(1 - previous)];
  const small = Math.max(f32(f32(previousRest / rest) * beta), MIN_VARIANCE);
  return {
    original: f32(f32(f32(Math.sqrt(previous)) * beta) / rest),
    sample: f32(f32(f32(Math.sqrt(alpha)) * previousRest) / rest),
    noise: f32(Math.sqrt(varianceType === 'fixed_large' ? beta : small)),
  };
};

/** Makes the schedule of one image. */
export const createDdpm = (config: DdpmConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
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
    step(modelOutput, index, sample, noise) {
      const timestep = at(timesteps, index);
      const product = at(products, timestep);
      const previous = index + 1 < timesteps.length ? at(products, at(timesteps, index + 1)) : 1;
      const weights = weightsOf(product, previous, config.variance_type);
      const predicted = denoised(config.prediction_type, modelOutput, sample, scalesOf(product));
      const original = withinBounds(config, predicted);
      const stepped = linearCombination(weights.original, original, weights.sample, sample);
      return timestep > 0 ? withNoise(stepped, noise(), weights.noise) : stepped;
    },
  };
};
