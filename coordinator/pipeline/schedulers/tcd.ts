/**
 * Strategic stochastic sampling: "Trajectory Consistency Distillation", arXiv 2402.19159, algorithm 4; `TCDScheduler` in diffusers.
 * `eta` says how far each step overshoots, to be lifted again by fresh noise: 0 is deterministic, 0.3 the scheduler's own default.
 * diffusers takes it as an argument of the pipeline (where 0 is the default); here it is a key of scheduler_config.json.
 */
import { z } from 'zod';
import { distilledKeys, distilledTimesteps } from './distilled-timesteps.js';
import { at, f32, linearCombination } from './float32.js';
import { alphaProducts, latentBetaKeys, noiseScheduleKeys, zeroSnrKeys } from './noise-schedule.js';
import { denoised, noiseIn, predictionType, scalesOf } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';

const ETA = 0.3;

export const tcdConfig = z.object({
  ...noiseScheduleKeys,
  ...zeroSnrKeys,
  ...latentBetaKeys,
  ...distilledKeys,
  beta_schedule: noiseScheduleKeys.beta_schedule.unwrap().default('scaled_linear'),
  prediction_type: predictionType,
  eta: z.number().min(0).max(1).default(ETA),
});
export type TcdConfig = z.infer<typeof tcdConfig>;

/** Makes the schedule of one image. */
export const createTcd = (config: TcdConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
  const timesteps = distilledTimesteps(config, numInferenceSteps);

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const scales = scalesOf(at(products, at(timesteps, index)));
      const last = index === timesteps.length - 1;
      const next = last ? 0 : at(timesteps, index + 1);
      const beyond = at(products, Math.floor(f32(f32(1 - config.eta) * next)));
      const original = denoised(config.prediction_type, modelOutput, sample, scales);
      const epsilon = noiseIn(config.prediction_type, modelOutput, sample, scales);
      const target = scalesOf(beyond);
      const overshot = linearCombination(target.alpha, original, target.sigma, epsilon);
      if (last || config.eta === 0) return overshot;
      const ratio = f32(at(products, next) / beyond);
      return linearCombination(f32(Math.sqrt(ratio)), overshot, f32(Math.sqrt(f32(1 - ratio))), noise());
    },
  };
};
