/**
 * UniPC, multistep: "A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", arXiv 2302.04867, algorithms 1
 * and 2; `UniPCMultistepScheduler` in diffusers. Each prediction first corrects the sample that it was made for.
 */
import { z } from 'zod';
import { at, linspace } from './float32.js';
import { dynamicallyShifted, muOf, shifted, stretchedTo } from './flow-levels.js';
import { trainingSigmas, zeroSnrKeys } from './noise-schedule.js';
import { denoised, noiseIn } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { sigmaSpacing } from './shared-options.js';
import {
  type Level,
  levelAt,
  levelsOf,
  type SolverLevels,
  solverKeys,
  solverLevelProblems,
  solverLevels,
  solverSpacingKeys,
  wholeTimesteps,
} from './solver-levels.js';
import { withinBounds } from './thresholding.js';
import { createMemory } from './two-stage.js';
import { unifiedUpdate } from './unipc-update.js';

export const unipcConfig = z.object({
  ...solverKeys,
  ...zeroSnrKeys,
  ...solverSpacingKeys,
  solver_order: z.number().int().min(1).max(4).default(2),
  predict_x0: z.boolean().default(true),
  // Configs of other solvers name variants of their own; diffusers reads them as bh2, and so do we.
  solver_type: z
    .enum(['bh1', 'bh2', 'midpoint', 'heun', 'logrho'])
    .transform((type) => (type === 'bh1' ? 'bh1' : 'bh2'))
    .default('bh2'),
  lower_order_final: z.boolean().default(true),
  disable_corrector: z.array(z.number().int().min(0)).default([]),
  solver_p: z
    .null({ error: 'is not supported: expected null, as no other solver predicts in place of it' })
    .default(null),
  final_sigmas_type: z.enum(['zero', 'sigma_min']).default('zero'),
});
export type UnipcConfig = z.infer<typeof unipcConfig>;

/** Options that end in a division of nothing by nothing, which diffusers does not refuse. */
export const unipcProblems = (config: UnipcConfig): readonly string[] => {
  const karrasFlow = config.use_flow_sigmas && sigmaSpacing(config) === 'karras';
  const problems = karrasFlow ? [] : [...solverLevelProblems(config)];
  const endsClean = config.final_sigmas_type === 'zero';
  if (endsClean && !config.predict_x0)
    problems.push('predict_x0 is false with final_sigmas_type "zero": expected "sigma_min", or predict_x0 true.');
  if (endsClean && !config.lower_order_final && config.solver_order > 1)
    problems.push(
      'lower_order_final is false with final_sigmas_type "zero": expected "sigma_min", or lower_order_final true.',
    );
  if (!config.predict_x0 && config.prediction_type === 'flow_prediction')
    problems.push('prediction_type is "flow_prediction" with predict_x0 false: expected predict_x0 true.');
  return problems;
};

/** A first level of nothing but noise has no signal to divide by, so that it is moved by this. */
const CLEARANCE = 1e-6;

/** Evenly spaced levels of a rectified flow, shifted, and stretched where the config says so. */
const flowLevels = (config: UnipcConfig, request: ScheduleRequest): SolverLevels => {
  const train = config.num_train_timesteps;
  const even = request.sigmas ?? linspace(1, 1 / train, request.numInferenceSteps + 1).slice(0, -1);
  const mu = config.use_dynamic_shifting ? muOf(config, request) : undefined;
  const moved = even.map((sigma) =>
    mu === undefined ? shifted(config.flow_shift, sigma) : dynamicallyShifted(config, mu, sigma),
  );
  const stretched = config.shift_terminal === null ? moved : stretchedTo(config.shift_terminal, moved);
  const sigmas = stretched.map((sigma, index) =>
    index === 0 && Math.abs(sigma - 1) < CLEARANCE ? sigma - CLEARANCE : sigma,
  );
  return { sigmas, timesteps: sigmas.map((sigma) => Math.trunc(sigma * train)) };
};

const spacedLevels = (config: UnipcConfig, request: ScheduleRequest, training: Float32Array): SolverLevels => {
  const spacing = sigmaSpacing(config);
  if (config.use_flow_sigmas && spacing === 'timesteps') return flowLevels(config, request);
  const train = config.num_train_timesteps;
  const count = request.numInferenceSteps;
  const whole = wholeTimesteps(config.timestep_spacing, train, config, config.steps_offset, count);
  const spaced = solverLevels(config, request, training, whole);
  if (!config.use_flow_sigmas) return spaced;
  const sigmas = spaced.sigmas.map((sigma) => sigma / (sigma + 1));
  return { sigmas, timesteps: sigmas.map((sigma) => Math.trunc(sigma * train)) };
};

const levelsOfImage = (config: UnipcConfig, request: ScheduleRequest) => {
  const training = trainingSigmas(config);
  const { sigmas, timesteps } = spacedLevels(config, request, training);
  const own = config.use_flow_sigmas || sigmaSpacing(config) !== 'timesteps';
  const least = own ? at(sigmas, sigmas.length - 1) : at(training, 0);
  const end = config.final_sigmas_type === 'zero' ? 0 : least;
  return { timesteps, levels: levelsOf([...sigmas, end], config) };
};

/** Makes the schedule of one image. */
export const createUnipc = (config: UnipcConfig, request: ScheduleRequest): Scheduler => {
  const { timesteps, levels } = levelsOfImage(config, request);
  const outputs = createMemory<Float32Array>();
  const samples = createMemory<Float32Array>();
  const orderOf = (index: number): number => {
    const left = config.lower_order_final ? timesteps.length - index : config.solver_order;
    return Math.min(config.solver_order, left, index + 1);
  };
  const converted = (output: Float32Array, sample: Float32Array, level: Level): Float32Array =>
    config.predict_x0 || config.prediction_type === 'flow_prediction'
      ? withinBounds(config, denoised(config.prediction_type, output, sample, level))
      : noiseIn(config.prediction_type, output, sample, level);
  /** What steps before `index` predicted, newest first, as many as an order needs. */
  const history = (index: number, order: number) =>
    Array.from({ length: order }, (_, back) => ({
      level: levelAt(levels, index - back),
      prediction: outputs.of(index - back),
    }));
  const corrects = (index: number): boolean => index > 0 && !config.disable_corrector.includes(index - 1);

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample) {
      const level = levelAt(levels, index);
      const prediction = converted(modelOutput, sample, level);
      const corrected = corrects(index)
        ? unifiedUpdate(config, level, samples.of(index - 1), history(index - 1, orderOf(index - 1)), prediction)
        : sample;
      outputs.keep(index, prediction);
      samples.keep(index, corrected);
      return unifiedUpdate(config, levelAt(levels, index + 1), corrected, history(index, orderOf(index)));
    },
  };
};
