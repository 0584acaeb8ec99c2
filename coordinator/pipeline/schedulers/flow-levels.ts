/**
 * Noise levels of rectified flows: evenly spaced, then shifted towards noise by a fixed amount or by one that grows with the image
 * ("Scaling Rectified Flow Transformers", arXiv 2403.03206, equation 23), then spaced anew where the config asks for it.
 */
import { z } from 'zod';
import { requestError } from '../errors.js';
import { at, f32, linspace } from './float32.js';
import { trainTimesteps } from './noise-schedule.js';
import type { ScheduleRequest } from './scheduler.js';
import { sigmaSpacing, sigmaSpacingKeys } from './shared-options.js';
import { spacedSigmas } from './sigmas.js';

const BASE_SHIFT = 0.5;
const MAX_SHIFT = 1.15;

/** How the shift follows the size of the image. */
export const dynamicShiftKeys = {
  use_dynamic_shifting: z.boolean().nullable().default(false),
  base_shift: z.number().nullable().default(BASE_SHIFT),
  max_shift: z.number().nullable().default(MAX_SHIFT),
  base_image_seq_len: z.number().int().positive().default(256),
  max_image_seq_len: z.number().int().positive().default(4096),
  time_shift_type: z.enum(['exponential', 'linear']).default('exponential'),
  shift_terminal: z.number().positive().lt(1).nullable().default(null),
} as const;
const dynamicShiftConfig = z.object(dynamicShiftKeys);
export type DynamicShiftConfig = z.infer<typeof dynamicShiftConfig>;

export const flowLevelKeys = {
  ...sigmaSpacingKeys,
  ...dynamicShiftKeys,
  num_train_timesteps: trainTimesteps,
  shift: z.number().positive().default(1),
  invert_sigmas: z.boolean().default(false),
} as const;
const flowLevelConfig = z.object(flowLevelKeys);
export type FlowLevelConfig = z.infer<typeof flowLevelConfig>;

/** A schedule that is shifted by a fixed amount and by nothing else, as `FlowMatchHeunDiscreteScheduler`'s is. */
export const plainFlow = (shift: number, numTrainTimesteps: number): FlowLevelConfig =>
  flowLevelConfig.parse({ shift, num_train_timesteps: numTrainTimesteps });

export const shifted = (shift: number, sigma: number): number => (shift * sigma) / (1 + (shift - 1) * sigma);

/**
 * The shift for an image of this many tokens: linear between the config's two ends.
 * @param imageSequenceLength number of image tokens that the transformer attends to
 */
export const dynamicShift = (config: DynamicShiftConfig, imageSequenceLength: number): number => {
  const baseShift = config.base_shift ?? BASE_SHIFT;
  const slope = ((config.max_shift ?? MAX_SHIFT) - baseShift) / (config.max_image_seq_len - config.base_image_seq_len);
  return imageSequenceLength * slope + (baseShift - slope * config.base_image_seq_len);
};

export const dynamicallyShifted = (config: DynamicShiftConfig, mu: number, sigma: number): number => {
  const scale = config.time_shift_type === 'exponential' ? Math.exp(mu) : mu;
  return scale / (scale + (1 / sigma - 1));
};

/** The shift's exponent for an image. @throws TandemError `REQUEST_INVALID` where nothing says how large it is */
export const muOf = (config: DynamicShiftConfig, { mu, imageSequenceLength }: ScheduleRequest): number => {
  if (mu !== undefined) return mu;
  if (imageSequenceLength !== undefined) return dynamicShift(config, imageSequenceLength);
  throw requestError(
    'This schedule shifts with the size of the image (use_dynamic_shifting), and no size was given: pass imageSequenceLength or mu.',
  );
};

/** Ends of the training schedule, already shifted in float32 where the shift is fixed; the steps are shifted once more. */
const trainingRange = (config: FlowLevelConfig): { max: number; min: number } => {
  const count = config.num_train_timesteps;
  const end = (timestep: number): number => {
    const sigma = f32(timestep / count);
    if (config.use_dynamic_shifting) return sigma;
    return f32(f32(config.shift * sigma) / f32(1 + f32((config.shift - 1) * sigma)));
  };
  return { max: end(count), min: end(1) };
};

/** Stretches the schedule so that its last sigma is `terminal`. */
export const stretchedTo = (terminal: number, sigmas: readonly number[]): number[] => {
  const factor = (1 - at(sigmas, sigmas.length - 1)) / (1 - terminal);
  return sigmas.map((sigma) => 1 - (1 - sigma) / factor);
};

const respaced = (config: FlowLevelConfig, sigmas: number[]): number[] => {
  const spacing = sigmaSpacing(config);
  if (spacing === 'timesteps') return sigmas;
  return spacedSigmas(spacing, at(sigmas, 0), at(sigmas, sigmas.length - 1), sigmas.length);
};

/** The shift function of one image. */
const shiftOf = (config: FlowLevelConfig, request: ScheduleRequest): ((sigma: number) => number) => {
  if (!config.use_dynamic_shifting) return (sigma) => shifted(config.shift, sigma);
  const mu = muOf(config, request);
  return (sigma) => dynamicallyShifted(config, mu, sigma);
};

/** Noise levels before the shift: the request's own, or evenly spaced over the training schedule. */
const unshiftedSigmas = (config: FlowLevelConfig, request: ScheduleRequest): readonly number[] => {
  if (request.sigmas === undefined) {
    const { max, min } = trainingRange(config);
    const train = config.num_train_timesteps;
    return linspace(max * train, min * train, request.numInferenceSteps).map((timestep) => timestep / train);
  }
  if (request.sigmas.length === request.numInferenceSteps) return request.sigmas.map(f32);
  throw requestError(`Expected one sigma a step (${request.numInferenceSteps}), found ${request.sigmas.length}.`);
};

export interface FlowLevels {
  readonly timesteps: readonly number[];
  /** One more than timesteps: the last is where the image ends. */
  readonly sigmas: Float32Array;
}

/** Levels of one image, and their timesteps. */
export const flowLevels = (config: FlowLevelConfig, request: ScheduleRequest): FlowLevels => {
  const unstretched = unshiftedSigmas(config, request).map(shiftOf(config, request));
  const stretched = config.shift_terminal === null ? unstretched : stretchedTo(config.shift_terminal, unstretched);
  const levels = respaced(config, stretched);
  // From noise to picture, or the other way for the models that count so (Mochi).
  const sigmas = Float32Array.from(
    config.invert_sigmas ? [...levels.map((sigma) => 1 - f32(sigma)), 1] : [...levels, 0],
  );
  return { sigmas, timesteps: [...sigmas.subarray(0, -1)].map((sigma) => f32(sigma * config.num_train_timesteps)) };
};
