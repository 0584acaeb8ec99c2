/**
 * DDIM, deterministic (eta 0): "Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12; `DDIMScheduler` in
 * diffusers. The default of many Stable Diffusion exports.
 */
import { z } from 'zod';
import { at, f32, linearCombination, roundHalfEven, zipWith } from './float32.js';
import { alphaProducts, noiseScheduleKeys } from './noise-schedule.js';
import { disabledFlag, predictionType } from './options.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { spacedTimesteps, timestepSpacing } from './timestep-spacing.js';

export const ddimConfig = z.object({
  ...noiseScheduleKeys,
  clip_sample: z.boolean().default(true),
  clip_sample_range: z.number().positive().default(1),
  set_alpha_to_one: z.boolean().default(true),
  steps_offset: z.number().int().default(0),
  prediction_type: predictionType,
  timestep_spacing: timestepSpacing.default('leading'),
  thresholding: disabledFlag('thresholding'),
});
export type DdimConfig = z.infer<typeof ddimConfig>;

/** Denoised sample and noise that a prediction stands for, given the roots of the alpha and beta products. */
export interface Decomposition {
  readonly original: Float32Array;
  readonly epsilon: Float32Array;
}

/** Splits a prediction into the denoised sample and the noise (v: arXiv 2202.00512, section 4). */
const decompose = (
  type: DdimConfig['prediction_type'],
  output: Float32Array,
  sample: Float32Array,
  rootAlpha: number,
  rootBeta: number,
): Decomposition => {
  switch (type) {
    case 'epsilon':
      return {
        original: zipWith(sample, output, (x, noise) => f32(x - f32(rootBeta * noise)) / rootAlpha),
        epsilon: output,
      };
    case 'sample':
      return {
        original: output,
        epsilon: zipWith(sample, output, (x, original) => f32(x - f32(rootAlpha * original)) / rootBeta),
      };
    case 'v_prediction':
      return {
        original: linearCombination(rootAlpha, sample, -rootBeta, output),
        epsilon: linearCombination(rootAlpha, output, rootBeta, sample),
      };
    default:
      return type satisfies never;
  }
};

/** Makes the schedule of one image. */
export const createDdim = (config: DdimConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
  const finalProduct = config.set_alpha_to_one ? 1 : at(products, 0);
  const stride = Math.floor(config.num_train_timesteps / numInferenceSteps);
  const timesteps = spacedTimesteps({
    spacing: config.timestep_spacing,
    numTrainTimesteps: config.num_train_timesteps,
    numInferenceSteps,
    stepsOffset: config.steps_offset,
  }).map(roundHalfEven);
  const clip = (values: Float32Array): Float32Array => {
    const range = config.clip_sample_range;
    return config.clip_sample ? values.map((value) => Math.min(range, Math.max(-range, value))) : values;
  };

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample) {
      const timestep = at(timesteps, index);
      const product = at(products, timestep);
      // The previous timestep is one stride below, whatever the spacing: with `trailing` it is not the next in the list.
      const previousTimestep = timestep - stride;
      const previous = previousTimestep >= 0 ? at(products, previousTimestep) : finalProduct;
      const rootAlpha = f32(Math.sqrt(product));
      const rootBeta = f32(Math.sqrt(f32(1 - product)));
      const { original, epsilon } = decompose(config.prediction_type, modelOutput, sample, rootAlpha, rootBeta);
      return linearCombination(f32(Math.sqrt(previous)), clip(original), f32(Math.sqrt(f32(1 - previous))), epsilon);
    },
  };
};
