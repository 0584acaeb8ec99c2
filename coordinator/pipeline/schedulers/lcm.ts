/**
 * Multistep consistency sampling: "Latent Consistency Models", arXiv 2310.04378, algorithm 3; `LCMScheduler` in diffusers.
 * Every step but the last adds fresh noise.
 */
import { z } from 'zod';
import { requestError } from '../errors.js';
import { at, f32, linearCombination, linspace, zipWith } from './float32.js';
import { alphaProducts, noiseScheduleKeys } from './noise-schedule.js';
import { disabledFlag, predictionType } from './options.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';

export const lcmConfig = z.object({
  ...noiseScheduleKeys,
  beta_start: z.number().positive().default(0.00085),
  beta_end: z.number().positive().default(0.012),
  beta_schedule: noiseScheduleKeys.beta_schedule.unwrap().default('scaled_linear'),
  original_inference_steps: z.number().int().positive().default(50),
  clip_sample: z.boolean().default(false),
  clip_sample_range: z.number().positive().default(1),
  prediction_type: predictionType,
  timestep_scaling: z.number().positive().default(10),
  thresholding: disabledFlag('thresholding'),
});
export type LcmConfig = z.infer<typeof lcmConfig>;

/** Standard deviation of the data that the boundary condition assumes (arXiv 2310.04378, section 4). */
const SIGMA_DATA = 0.5;

/** A subset, evenly spaced by index, of the timesteps that the model was distilled on. */
const lcmTimesteps = (config: LcmConfig, count: number): number[] => {
  const originalSteps = config.original_inference_steps;
  if (count > originalSteps)
    throw requestError(
      `An LCM schedule of ${originalSteps} original steps cannot give ${count} steps. Ask for at most ${originalSteps} steps; 4 to 8 are usual.`,
    );
  const stride = Math.floor(config.num_train_timesteps / originalSteps);
  const descending = Array.from({ length: originalSteps }, (_, index) => (originalSteps - index) * stride - 1);
  // NumPy's linspace without its end point is one with one more point and that point dropped.
  return linspace(0, originalSteps, count + 1)
    .slice(0, -1)
    .map((position) => at(descending, Math.floor(position)));
};

const denoised = (
  config: LcmConfig,
  output: Float32Array,
  sample: Float32Array,
  rootAlpha: number,
  rootBeta: number,
): Float32Array => {
  switch (config.prediction_type) {
    case 'epsilon':
      return zipWith(sample, output, (x, noise) => f32(x - f32(rootBeta * noise)) / rootAlpha);
    case 'sample':
      return output;
    case 'v_prediction':
      return linearCombination(rootAlpha, sample, -rootBeta, output);
    default:
      return config.prediction_type satisfies never;
  }
};

/** Makes the schedule of one image. */
export const createLcm = (config: LcmConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
  const timesteps = lcmTimesteps(config, numInferenceSteps);
  const clip = (values: Float32Array): Float32Array => {
    const range = config.clip_sample_range;
    return config.clip_sample ? values.map((value) => Math.min(range, Math.max(-range, value))) : values;
  };

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const timestep = at(timesteps, index);
      const product = at(products, timestep);
      const rootAlpha = f32(Math.sqrt(product));
      const rootBeta = f32(Math.sqrt(f32(1 - product)));
      const original = clip(denoised(config, modelOutput, sample, rootAlpha, rootBeta));
      const scaled = timestep * config.timestep_scaling;
      const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
      const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
      const result = linearCombination(f32(out), original, f32(skip), sample);
      if (index === timesteps.length - 1) return result;
      const next = at(products, at(timesteps, index + 1));
      return linearCombination(f32(Math.sqrt(next)), result, f32(Math.sqrt(f32(1 - next))), noise());
    },
  };
};
