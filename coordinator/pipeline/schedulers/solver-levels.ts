/**
 * Noise levels of the exponential integrators: DPM-Solver, DEIS and UniPC. They step in the logarithm of signal to noise, on the levels
 * of a variance-preserving process or, with `use_flow_sigmas`, of a rectified flow.
 */
import { z } from 'zod';
import { at, f32, linspace, roundHalfEven } from './float32.js';
import { dynamicShiftKeys, muOf, shifted } from './flow-levels.js';
import { noiseScheduleKeys } from './noise-schedule.js';
import { anyPredictionType, type Scales } from './predictions.js';
import type { ScheduleRequest } from './scheduler.js';
import { type SigmaSpacing, sigmaRangeKeys, sigmaSpacing, sigmaSpacingKeys, stepsOffset } from './shared-options.js';
import { interpolateSigmas, spacedSigmas, timestepOfSigma } from './sigmas.js';
import { thresholdingKeys } from './thresholding.js';
import { leadingTimesteps, type TimestepSpacing, timestepSpacing, trailingTimesteps } from './timestep-spacing.js';

/** Options of all of them. */
export const solverKeys = {
  ...noiseScheduleKeys,
  ...sigmaSpacingKeys,
  ...sigmaRangeKeys,
  ...thresholdingKeys,
  ...dynamicShiftKeys,
  prediction_type: anyPredictionType,
  use_flow_sigmas: z.boolean().nullable().default(false),
  flow_shift: z.number().positive().default(1),
} as const;

export const solverOrder = z.union([z.literal(1), z.literal(2), z.literal(3)]).default(2);

/** Options of those that space timesteps in more than one way. */
export const solverSpacingKeys = {
  timestep_spacing: timestepSpacing.default('linspace'),
  steps_offset: stepsOffset,
} as const;

const solverConfig = z.object(solverKeys);
export type SolverConfig = z.infer<typeof solverConfig>;

/** A noise level, with the logarithm of the ratio of signal to noise. */
export interface Level extends Scales {
  readonly lambda: number;
}

const levelFrom = (alpha: number, sigma: number): Level => ({
  alpha,
  sigma,
  lambda: f32(f32(Math.log(alpha)) - f32(Math.log(sigma))),
});

/** The level of a ratio of noise to signal. */
const preservedLevel = (sigma: number): Level => {
  const alpha = f32(1 / f32(Math.sqrt(f32(f32(sigma * sigma) + 1))));
  return levelFrom(alpha, f32(sigma * alpha));
};

/** Levels of sigmas, rounded to float32. */
export const levelsOf = (sigmas: readonly number[], { use_flow_sigmas }: SolverConfig): readonly Level[] =>
  [...Float32Array.from(sigmas)].map((sigma) =>
    use_flow_sigmas ? levelFrom(f32(1 - sigma), sigma) : preservedLevel(sigma),
  );

/** The level at `index`; the last is where the image ends. */
export const levelAt = (levels: readonly Level[], index: number): Level => {
  const level = levels[index];
  if (level === undefined) throw new RangeError(`Level ${index} is outside a schedule of ${levels.length} levels.`);
  return level;
};

export interface SolverLevels {
  /** Before the end of the image, in float64. */
  readonly sigmas: readonly number[];
  readonly timesteps: readonly number[];
}

/** Whole timesteps, of which one more is spaced and the lowest dropped: the end of the image is a sigma of its own. */
export const wholeTimesteps = (
  spacing: TimestepSpacing,
  last: number,
  { num_train_timesteps }: SolverConfig,
  offset: number,
  count: number,
): number[] => {
  switch (spacing) {
    case 'linspace':
      return linspace(0, last - 1, count + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1);
    case 'leading':
      return leadingTimesteps(Math.floor(last / (count + 1)), count + 1, offset).slice(0, -1);
    case 'trailing':
      return trailingTimesteps(last, num_train_timesteps / count);
    default:
      return spacing satisfies never;
  }
};

/** Levels in a spacing of their own; Karras' timesteps are rounded and the others' cut off, as diffusers has it. */
const ownLevels = (
  config: SolverConfig,
  spacing: Exclude<SigmaSpacing, 'timesteps'>,
  training: Float32Array,
  count: number,
): SolverLevels => {
  const max = config.sigma_max ?? at(training, training.length - 1);
  const min = config.sigma_min ?? at(training, 0);
  const sigmas = spacedSigmas(spacing, max, min, count);
  const logTraining = training.map(Math.log);
  const rounds = spacing === 'karras' || spacing === 'lu';
  const round = rounds ? roundHalfEven : Math.trunc;
  return { sigmas, timesteps: sigmas.map((sigma) => round(timestepOfSigma(sigma, logTraining))) };
};

/** Evenly spaced levels of a rectified flow, shifted towards noise. */
const shiftedLevels = (config: SolverConfig, request: ScheduleRequest): SolverLevels => {
  const train = config.num_train_timesteps;
  const shift = config.use_dynamic_shifting ? Math.exp(muOf(config, request)) : config.flow_shift;
  const sigmas = linspace(1, 1 / train, request.numInferenceSteps + 1)
    .map((alpha) => shifted(shift, 1 - alpha))
    .reverse()
    .slice(0, -1);
  return { sigmas, timesteps: sigmas.map((sigma) => Math.trunc(sigma * train)) };
};

/**
 * The levels of an image by the spacing that the config asks for.
 * @param training sigmas per training timestep, ascending
 * @param timesteps those visited where nothing else is asked for, descending
 */
export const solverLevels = (
  config: SolverConfig,
  request: ScheduleRequest,
  training: Float32Array,
  timesteps: readonly number[],
): SolverLevels => {
  const spacing = sigmaSpacing(config);
  if (spacing !== 'timesteps') return ownLevels(config, spacing, training, request.numInferenceSteps);
  if (config.use_flow_sigmas) return shiftedLevels(config, request);
  return { sigmas: interpolateSigmas(timesteps, training), timesteps };
};

/** What is wrong with the ways in which the levels of a config are told. */
export const solverLevelProblems = (config: SolverConfig): readonly string[] => {
  const flow = config.use_flow_sigmas === true;
  const problems: string[] = [];
  if (flow && sigmaSpacing(config) !== 'timesteps')
    problems.push(
      'use_flow_sigmas is on beside a spacing of noise levels: expected one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas and use_flow_sigmas at most.',
    );
  if (config.prediction_type === 'flow_prediction' && !flow)
    problems.push('prediction_type is "flow_prediction" without use_flow_sigmas: expected both or neither.');
  return problems;
};
