/**
 * Heun's method on the probability-flow ODE in sigmas (arXiv 2206.00364, algorithm 1 without churn): the slope is the mean of those
 * at both ends of a step. `HeunDiscreteScheduler` in diffusers, and `FlowMatchHeunDiscreteScheduler` for rectified flows.
 */
import { z } from 'zod';
import { at, f32, zipWith } from './float32.js';
import { flowLevels, plainFlow } from './flow-levels.js';
import { latentBetaKeys, trainTimesteps } from './noise-schedule.js';
import { denoisedInSigmas, type PredictionType, predictionType } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { along, atUnitVariance, sigmaLevelKeys, sigmaLevels, slopeOf, startSigma } from './sigma-levels.js';
import { type BoundsConfig, clippingKeys, withinBounds } from './thresholding.js';
import { createMemory, interleaved, stageOf } from './two-stage.js';

export const heunConfig = z.object({
  ...sigmaLevelKeys,
  ...latentBetaKeys,
  ...clippingKeys,
  clip_sample: z.boolean().default(false),
  prediction_type: predictionType,
});
export type HeunConfig = z.infer<typeof heunConfig>;

export const flowMatchHeunConfig = z.object({
  num_train_timesteps: trainTimesteps,
  shift: z.number().positive().default(1),
});
export type FlowMatchHeunConfig = z.infer<typeof flowMatchHeunConfig>;

interface First {
  readonly sample: Float32Array;
  readonly slope: Float32Array;
}

const createStep = (
  config: BoundsConfig & { readonly prediction_type: PredictionType },
  sigmas: Float32Array,
): Scheduler['step'] => {
  const memory = createMemory<First>();
  return (modelOutput, call, sample) => {
    const { step, second } = stageOf(call);
    const sigma = at(sigmas, second ? step + 1 : step);
    const change = f32(at(sigmas, step + 1) - at(sigmas, step));
    const original = withinBounds(config, denoisedInSigmas(config.prediction_type, modelOutput, sample, sigma));
    const slope = slopeOf(sample, original, sigma);
    if (!second) return along(memory.keep(step, { sample, slope }).sample, slope, change);
    const first = memory.of(step);
    return along(
      first.sample,
      zipWith(first.slope, slope, (before, after) => f32(before + after) / 2),
      change,
    );
  };
};

/** Makes the schedule of one image. */
export const createHeun = (config: HeunConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const spaced = sigmaLevels(config, numInferenceSteps);
  const sigmas = Float32Array.from([...spaced.sigmas, 0]);
  const levelOf = (call: number): number => Math.ceil(call / 2);
  return {
    timesteps: interleaved(spaced.timesteps, (step) => at(spaced.timesteps, step + 1)),
    initNoiseSigma: startSigma(sigmas, config.timestep_spacing),
    scaleModelInput: (sample, call) => atUnitVariance(sample, at(sigmas, levelOf(call))),
    step: createStep(config, sigmas),
  };
};

/** Makes the schedule of one image of a rectified flow. */
export const createFlowMatchHeun = (config: FlowMatchHeunConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const { sigmas, timesteps } = flowLevels(plainFlow(config.shift, config.num_train_timesteps), {
    numInferenceSteps,
  });
  return {
    timesteps: interleaved(timesteps, (step) => at(timesteps, step + 1)),
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step: createStep({ prediction_type: 'flow_prediction' }, sigmas),
  };
};
