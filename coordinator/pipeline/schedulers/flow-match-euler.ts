/**
 * Euler's method on a rectified flow (arXiv 2403.03206); `FlowMatchEulerDiscreteScheduler` in diffusers, SD3's and FLUX's default. And
 * `FlowMatchLCMScheduler`, which goes all the way to the picture at each step and back up with fresh noise.
 */
import { z } from 'zod';
import { at, f32, zipWith } from './float32.js';
import { type FlowLevelConfig, flowLevelKeys, flowLevels } from './flow-levels.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';

export const flowMatchEulerConfig = z.object({ ...flowLevelKeys, stochastic_sampling: z.boolean().default(false) });
export type FlowMatchEulerConfig = z.infer<typeof flowMatchEulerConfig>;

export const flowMatchLcmConfig = z.object({
  ...flowLevelKeys,
  scale_factors: z
    .null({ error: 'is not supported: expected null, as latents are not resized between steps' })
    .default(null),
});
export type FlowMatchLcmConfig = z.infer<typeof flowMatchLcmConfig>;

const createFlow = (config: FlowLevelConfig, request: ScheduleRequest, stochastic: boolean): Scheduler => {
  const { sigmas, timesteps } = flowLevels(config, request);
  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const sigma = at(sigmas, index);
      const next = at(sigmas, index + 1);
      if (!stochastic) {
        const change = f32(next - sigma);
        return zipWith(sample, modelOutput, (x, velocity) => x + f32(change * velocity));
      }
      const original = zipWith(sample, modelOutput, (x, velocity) => x - f32(sigma * velocity));
      const keep = f32(1 - next);
      return zipWith(original, noise(), (x0, fresh) => f32(keep * x0) + f32(next * fresh));
    },
  };
};

/** Makes the schedule of one image. */
export const createFlowMatchEuler = (config: FlowMatchEulerConfig, request: ScheduleRequest): Scheduler =>
  createFlow(config, request, config.stochastic_sampling);

/** Makes the schedule of one image. */
export const createFlowMatchLcm = (config: FlowMatchLcmConfig, request: ScheduleRequest): Scheduler =>
  createFlow(config, request, true);
