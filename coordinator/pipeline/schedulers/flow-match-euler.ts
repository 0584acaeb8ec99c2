/**
 * Euler's method on a rectified flow: "Scaling Rectified Flow Transformers", arXiv 2403.03206 (the shift is its equation
 * 23); `FlowMatchEulerDiscreteScheduler` in diffusers. SD3's and FLUX's default.
 */
import { z } from 'zod';
import { requestError } from '../errors.js';
import { at, f32, linspace, zipWith } from './float32.js';
import { sigmaSpacing, sigmaSpacingKeys } from './options.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { exponentialSigmas, karrasSigmas } from './sigmas.js';

export const flowMatchEulerConfig = z.object({
  ...sigmaSpacingKeys,
  num_train_timesteps: z.number().int().positive().default(1000),
  shift: z.number().positive().default(1),
  use_dynamic_shifting: z.boolean().default(false),
  base_shift: z.number().nullable().default(0.5),
  max_shift: z.number().nullable().default(1.15),
  base_image_seq_len: z.number().int().positive().default(256),
  max_image_seq_len: z.number().int().positive().default(4096),
  shift_terminal: z.number().positive().nullable().default(null),
  time_shift_type: z.enum(['exponential', 'linear']).default('exponential'),
  invert_sigmas: z.boolean().default(false),
  stochastic_sampling: z.boolean().default(false),
});
export type FlowMatchEulerConfig = z.infer<typeof flowMatchEulerConfig>;

const shifted = (shift: number, sigma: number): number => (shift * sigma) / (1 + (shift - 1) * sigma);

/**
 * The shift for an image of this many tokens: linear between the config's two ends.
 * @param imageSequenceLength number of image tokens that the transformer attends to
 */
export const dynamicShift = (config: FlowMatchEulerConfig, imageSequenceLength: number): number => {
  const baseShift = config.base_shift ?? 0.5;
  const slope = ((config.max_shift ?? 1.15) - baseShift) / (config.max_image_seq_len - config.base_image_seq_len);
  return imageSequenceLength * slope + (baseShift - slope * config.base_image_seq_len);
};

const dynamicallyShifted = (config: FlowMatchEulerConfig, mu: number, sigma: number): number => {
  const scale = config.time_shift_type === 'exponential' ? Math.exp(mu) : mu;
  return scale / (scale + (1 / sigma - 1));
};

/** Ends of the training schedule, already shifted in float32 where the shift is fixed; the steps are shifted once more. */
const trainingRange = (config: FlowMatchEulerConfig): { max: number; min: number } => {
  const count = config.num_train_timesteps;
  const end = (timestep: number): number => {
    const sigma = f32(timestep / count);
    if (config.use_dynamic_shifting) return sigma;
    return f32(f32(config.shift * sigma) / f32(1 + f32((config.shift - 1) * sigma)));
  };
  return { max: end(count), min: end(1) };
};

/** Stretches the schedule so that its last sigma is `terminal`. */
const stretchedTo = (terminal: number, sigmas: readonly number[]): number[] => {
  const factor = (1 - at(sigmas, sigmas.length - 1)) / (1 - terminal);
  return sigmas.map((sigma) => 1 - (1 - sigma) / factor);
};

const respaced = (config: FlowMatchEulerConfig, sigmas: number[]): number[] => {
  const max = at(sigmas, 0);
  const min = at(sigmas, sigmas.length - 1);
  const spacing = sigmaSpacing(config);
  switch (spacing) {
    case 'karras':
      return karrasSigmas(max, min, sigmas.length);
    case 'exponential':
      return exponentialSigmas(max, min, sigmas.length);
    case 'timesteps':
      return sigmas;
    default:
      return spacing satisfies never;
  }
};

/** The shift function of one image. */
const shiftOf = (config: FlowMatchEulerConfig, request: ScheduleRequest): ((sigma: number) => number) => {
  if (!config.use_dynamic_shifting) return (sigma) => shifted(config.shift, sigma);
  const { imageSequenceLength } = request;
  const mu = request.mu ?? (imageSequenceLength === undefined ? undefined : dynamicShift(config, imageSequenceLength));
  if (mu === undefined)
    throw requestError(
      'This schedule shifts with the size of the image (use_dynamic_shifting), and no size was given: pass imageSequenceLength or mu.',
    );
  return (sigma) => dynamicallyShifted(config, mu, sigma);
};

/** Noise levels before the shift: the request's own, or evenly spaced over the training schedule. */
const unshiftedSigmas = (config: FlowMatchEulerConfig, request: ScheduleRequest): readonly number[] => {
  if (request.sigmas === undefined) {
    const { max, min } = trainingRange(config);
    const train = config.num_train_timesteps;
    return linspace(max * train, min * train, request.numInferenceSteps).map((timestep) => timestep / train);
  }
  if (request.sigmas.length === request.numInferenceSteps) return request.sigmas.map(f32);
  throw requestError(`Expected one sigma a step (${request.numInferenceSteps}), found ${request.sigmas.length}.`);
};

const sigmasOf = (config: FlowMatchEulerConfig, request: ScheduleRequest): Float32Array => {
  const sigmas = unshiftedSigmas(config, request).map(shiftOf(config, request));
  const stretched = config.shift_terminal === null ? sigmas : stretchedTo(config.shift_terminal, sigmas);
  const levels = respaced(config, stretched);
  // From noise to picture, or the other way for the models that count so (Mochi).
  return Float32Array.from(config.invert_sigmas ? [...levels.map((sigma) => 1 - f32(sigma)), 1] : [...levels, 0]);
};

/** Makes the schedule of one image. */
export const createFlowMatchEuler = (config: FlowMatchEulerConfig, request: ScheduleRequest): Scheduler => {
  const sigmas = sigmasOf(config, request);
  return {
    timesteps: [...sigmas.subarray(0, -1)].map((sigma) => f32(sigma * config.num_train_timesteps)),
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const sigma = at(sigmas, index);
      const next = at(sigmas, index + 1);
      if (!config.stochastic_sampling) {
        const change = f32(next - sigma);
        return zipWith(sample, modelOutput, (x, velocity) => x + f32(change * velocity));
      }
      const original = zipWith(sample, modelOutput, (x, velocity) => x - f32(sigma * velocity));
      const keep = f32(1 - next);
      return zipWith(original, noise(), (x0, fresh) => f32(keep * x0) + f32(next * fresh));
    },
  };
};
