/**
 * DPM-Solver++, multistep, of order 1 to 3 ("2M" is order 2): arXiv 2211.01095, algorithm 2; in diffusers
 * `DPMSolverMultistepScheduler`. `sde-dpmsolver++` is its stochastic form ("2M SDE").
 */
import { z } from 'zod';
import { converted, dpmSolverKeys, unclippedTimesteps } from './dpm-solver-options.js';
import {
  ALGORITHMS,
  isStochastic,
  multistepSecond,
  multistepThird,
  update,
  type Visited,
} from './dpm-solver-updates.js';
import { at } from './float32.js';
import { trainingSigmas, zeroSnrKeys } from './noise-schedule.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { timestepOfSigma } from './sigmas.js';
import { levelAt, levelsOf, solverLevels, solverSpacingKeys, wholeTimesteps } from './solver-levels.js';
import { createMemory } from './two-stage.js';

export const dpmSolverMultistepConfig = z.object({
  ...dpmSolverKeys,
  ...zeroSnrKeys,
  ...solverSpacingKeys,
  // DEIS configs name an algorithm of their own; diffusers reads it as this, and so do we.
  algorithm_type: z
    .enum([...ALGORITHMS, 'deis'])
    .transform((type) => (type === 'deis' ? 'dpmsolver++' : type))
    .default('dpmsolver++'),
  lower_order_final: z.boolean().default(true),
  euler_at_final: z.boolean().default(false),
  use_lu_lambdas: z.boolean().nullable().default(false),
});
export type DpmSolverMultistepConfig = z.infer<typeof dpmSolverMultistepConfig>;

/** Below this many steps the last ones drop to a lower order, which is more stable (as diffusers chose it). */
export const FEW_STEPS = 15;

/** Order of each step: it rises as steps are there to look back on, and falls again at the end of short images. */
export const multistepOrder = (
  solverOrder: 1 | 2 | 3,
  index: number,
  count: number,
  { endsLow, fallsAtEnd }: { readonly endsLow: boolean; readonly fallsAtEnd: boolean },
): 1 | 2 | 3 => {
  if (index === 0 || solverOrder === 1 || (index === count - 1 && endsLow)) return 1;
  if (index === 1 || solverOrder === 2 || (index === count - 2 && fallsAtEnd)) return 2;
  return 3;
};

const levelsOfImage = (config: DpmSolverMultistepConfig, request: ScheduleRequest) => {
  const training = trainingSigmas(config);
  const last = unclippedTimesteps(config, training);
  const count = request.numInferenceSteps;
  const whole = wholeTimesteps(config.timestep_spacing, last, config, config.steps_offset, count);
  const spaced = solverLevels(config, request, training, whole);
  // The cosine schedule's timesteps are cut off and not rounded.
  const logTraining = training.map(Math.log);
  const cut = config.beta_schedule === 'squaredcos_cap_v2' && (config.use_karras_sigmas || config.use_lu_lambdas);
  const timesteps = cut
    ? spaced.sigmas.map((sigma) => Math.trunc(timestepOfSigma(sigma, logTraining)))
    : spaced.timesteps;
  const end = config.final_sigmas_type === 'zero' ? 0 : at(training, 0);
  return { timesteps, levels: levelsOf([...spaced.sigmas, end], config) };
};

/** Makes the schedule of one image. */
export const createDpmSolverMultistep = (config: DpmSolverMultistepConfig, request: ScheduleRequest): Scheduler => {
  const { timesteps, levels } = levelsOfImage(config, request);
  const { algorithm_type: algorithm, solver_type: solverType } = config;
  const visits = createMemory<Visited>();
  const fallsAtEnd = config.lower_order_final && timesteps.length < FEW_STEPS;
  const endsLow = config.euler_at_final || config.final_sigmas_type === 'zero' || fallsAtEnd;
  const derivatives = (index: number) => {
    const [target, now] = [levelAt(levels, index + 1), visits.of(index)];
    const order = multistepOrder(config.solver_order, index, timesteps.length, { endsLow, fallsAtEnd });
    if (order === 1) return { source: now.level, prediction: now.prediction };
    if (order === 2) return multistepSecond(target, now, visits.of(index - 1));
    return multistepThird(target, now, visits.of(index - 1), visits.of(index - 2));
  };

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const level = levelAt(levels, index);
      visits.keep(index, { level, prediction: converted(config, modelOutput, sample, level) });
      const fresh = isStochastic(algorithm) ? { noise: noise() } : {};
      return update({
        algorithm,
        solverType,
        target: levelAt(levels, index + 1),
        sample,
        ...derivatives(index),
        ...fresh,
      });
    },
  };
};
