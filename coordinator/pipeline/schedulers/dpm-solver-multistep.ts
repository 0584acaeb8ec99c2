/**
 * DPM-Solver++, multistep, of order 1 to 3 ("2M" is order 2): arXiv 2211.01095, algorithm 2; in diffusers
 * `DPMSolverMultistepScheduler` with `algorithm_type` dpmsolver++.
 */
import { z } from 'zod';
import { firstOrder, type Level, levelOf, secondOrder, thirdOrder, type Visited } from './dpm-solver-updates.js';
import { at, f32, linspace, roundHalfEven, zipWith } from './float32.js';
import { noiseScheduleKeys, trainingSigmas } from './noise-schedule.js';
import { disabledFlag, predictionType, sigmaRangeKeys, sigmaSpacing, sigmaSpacingKeys } from './options.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { exponentialSigmas, interpolateSigmas, karrasSigmas, timestepOfSigma } from './sigmas.js';
import { leadingTimesteps, timestepSpacing, trailingTimesteps } from './timestep-spacing.js';

export const dpmSolverConfig = z.object({
  ...noiseScheduleKeys,
  ...sigmaSpacingKeys,
  ...sigmaRangeKeys,
  solver_order: z.union([z.literal(1), z.literal(2), z.literal(3)]).default(2),
  prediction_type: predictionType,
  // DEIS and UniPC configs name variants of their own; diffusers reads them as these, and so do we.
  algorithm_type: z.enum(['dpmsolver++', 'deis']).default('dpmsolver++'),
  solver_type: z.enum(['midpoint', 'heun', 'logrho', 'bh1', 'bh2']).default('midpoint'),
  lower_order_final: z.boolean().default(true),
  euler_at_final: z.boolean().default(false),
  final_sigmas_type: z.enum(['zero', 'sigma_min']).default('zero'),
  lambda_min_clipped: z.number().or(z.literal(Number.NEGATIVE_INFINITY)).default(Number.NEGATIVE_INFINITY),
  variance_type: z.null().default(null),
  timestep_spacing: timestepSpacing.default('linspace'),
  steps_offset: z.number().int().default(0),
  thresholding: disabledFlag('thresholding'),
  use_lu_lambdas: disabledFlag('use_lu_lambdas'),
  use_flow_sigmas: disabledFlag('use_flow_sigmas'),
  use_dynamic_shifting: disabledFlag('use_dynamic_shifting'),
});
export type DpmSolverConfig = z.infer<typeof dpmSolverConfig>;

/** Below this many steps the last ones drop to a lower order, which is more stable (as diffusers chose it). */
const FEW_STEPS = 15;

/** Number of training timesteps whose lambda is not clipped. */
const unclippedTimesteps = (config: DpmSolverConfig, training: Float32Array): number => {
  const clipped = [...training].filter((sigma) => -Math.log(sigma) < config.lambda_min_clipped).length;
  return config.num_train_timesteps - clipped;
};

const wholeTimesteps = (config: DpmSolverConfig, training: Float32Array, count: number): number[] => {
  const last = unclippedTimesteps(config, training);
  switch (config.timestep_spacing) {
    // One more level than steps is spaced and the lowest dropped: the end of the image is a sigma of its own.
    case 'linspace':
      return linspace(0, last - 1, count + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1);
    case 'leading':
      return leadingTimesteps(Math.floor(last / (count + 1)), count + 1, config.steps_offset).slice(0, -1);
    case 'trailing':
      return trailingTimesteps(last, config.num_train_timesteps / count);
    default:
      return config.timestep_spacing satisfies never;
  }
};

const spacedLevels = (
  config: DpmSolverConfig,
  training: Float32Array,
  count: number,
): { sigmas: number[]; timesteps: number[] } => {
  const max = config.sigma_max ?? at(training, training.length - 1);
  const min = config.sigma_min ?? at(training, 0);
  const logTraining = training.map(Math.log);
  const timestepsOf = (sigmas: readonly number[]): number[] =>
    sigmas.map((sigma) => timestepOfSigma(sigma, logTraining));
  const spacing = sigmaSpacing(config);
  switch (spacing) {
    case 'karras': {
      const sigmas = karrasSigmas(max, min, count);
      const round = config.beta_schedule === 'squaredcos_cap_v2' ? Math.trunc : roundHalfEven;
      return { sigmas, timesteps: timestepsOf(sigmas).map(round) };
    }
    case 'exponential': {
      const sigmas = exponentialSigmas(max, min, count);
      return { sigmas, timesteps: timestepsOf(sigmas).map(Math.trunc) };
    }
    case 'timesteps': {
      const timesteps = wholeTimesteps(config, training, count);
      return { sigmas: interpolateSigmas(timesteps, training), timesteps };
    }
    default:
      return spacing satisfies never;
  }
};

const denoised = (
  config: DpmSolverConfig,
  output: Float32Array,
  sample: Float32Array,
  { alpha, sigma }: Level,
): Float32Array => {
  switch (config.prediction_type) {
    case 'epsilon':
      return zipWith(sample, output, (x, noise) => f32(x - f32(sigma * noise)) / alpha);
    case 'sample':
      return output;
    case 'v_prediction':
      return zipWith(sample, output, (x, velocity) => f32(alpha * x) - f32(sigma * velocity));
    default:
      return config.prediction_type satisfies never;
  }
};

/** Order of each step: it rises as steps are there to look back on, and falls again at the end of short images. */
const orderOf = (config: DpmSolverConfig, index: number, count: number): 1 | 2 | 3 => {
  const fallsAtEnd = config.lower_order_final && count < FEW_STEPS;
  const endsLow = config.euler_at_final || config.final_sigmas_type === 'zero' || fallsAtEnd;
  if (index === 0 || config.solver_order === 1 || (index === count - 1 && endsLow)) return 1;
  if (index === 1 || config.solver_order === 2 || (index === count - 2 && fallsAtEnd)) return 2;
  return 3;
};

/** The element at `index`; a step is only taken after those before it. */
const elementAt = <T>(values: readonly (T | undefined)[], index: number, what: string): T => {
  const value = values[index];
  if (value === undefined) throw new RangeError(`There is no ${what} ${index}: steps are taken in order, from 0 on.`);
  return value;
};

/** Makes the schedule of one image. */
export const createDpmSolver = (config: DpmSolverConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const training = trainingSigmas(config);
  const { sigmas, timesteps } = spacedLevels(config, training, numInferenceSteps);
  const end = config.final_sigmas_type === 'zero' ? 0 : at(training, 0);
  const levels = [...Float32Array.from([...sigmas, end])].map(levelOf);
  const solverType = config.solver_type === 'heun' ? 'heun' : 'midpoint';
  const visits: Visited[] = [];
  const visited = (index: number): Visited => elementAt(visits, index, 'step');

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample) {
      const level = elementAt(levels, index, 'level');
      const target = elementAt(levels, index + 1, 'level');
      const source = { level, original: denoised(config, modelOutput, sample, level) };
      visits[index] = source;
      const order = orderOf(config, index, timesteps.length);
      switch (order) {
        case 1:
          return firstOrder(target, source, sample);
        case 2:
          return secondOrder(solverType, target, source, visited(index - 1), sample);
        case 3:
          return thirdOrder(target, source, visited(index - 1), visited(index - 2), sample);
        default:
          return order satisfies never;
      }
    },
  };
};
