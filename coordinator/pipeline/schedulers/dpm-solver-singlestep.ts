/**
 * DPM-Solver++, singlestep, of order 1 to 3: arXiv 2206.00927, algorithm 1 and 2; in diffusers `DPMSolverSinglestepScheduler`. Steps
 * come in blocks of the solver's order: each step of a block goes from the block's start, with one more prediction to look back on.
 */
import { z } from 'zod';
import { converted, dpmSolverKeys, unclippedTimesteps } from './dpm-solver-options.js';
import { isStochastic, singlestepSecond, singlestepThird, update, type Visited } from './dpm-solver-updates.js';
import { at } from './float32.js';
import { trainingSigmas } from './noise-schedule.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { levelAt, levelsOf, solverLevels, wholeTimesteps } from './solver-levels.js';
import { createMemory } from './two-stage.js';

export const dpmSolverSinglestepConfig = z.object({
  ...dpmSolverKeys,
  algorithm_type: z
    .enum(['dpmsolver++', 'dpmsolver', 'sde-dpmsolver++', 'deis'])
    .transform((type) => (type === 'deis' ? 'dpmsolver++' : type))
    .default('dpmsolver++'),
  lower_order_final: z.boolean().default(false),
});
export type DpmSolverSinglestepConfig = z.infer<typeof dpmSolverSinglestepConfig>;

/** Where a number of steps does not divide into blocks, and where the image ends at no noise, the last block is a lower one. */
const endsLower = (config: DpmSolverSinglestepConfig, count: number): boolean =>
  config.lower_order_final || count % config.solver_order !== 0 || config.final_sigmas_type === 'zero';

/** Steps of the last block with two or three steps to a block, where it must end lower, by how many are left for it. */
const LAST_BLOCKS: Readonly<Record<1 | 2 | 3, readonly (readonly number[])[]>> = {
  1: [[]],
  2: [[1, 1], [1]],
  3: [[1, 2, 1], [1], [1, 2]],
};

/** Order of each step. */
export const singlestepOrders = (config: DpmSolverSinglestepConfig, count: number): readonly number[] => {
  const order = config.solver_order;
  const block = Array.from({ length: order }, (_, index) => index + 1);
  const last = endsLower(config, count) ? (LAST_BLOCKS[order][count % order] ?? []) : [];
  const blocks = (count - last.length) / order;
  const orders = [...Array.from({ length: blocks }, () => block).flat(), ...last];
  return config.final_sigmas_type === 'zero' ? [...orders.slice(0, -1), 1] : orders;
};

const levelsOfImage = (config: DpmSolverSinglestepConfig, request: ScheduleRequest) => {
  const training = trainingSigmas(config);
  const last = unclippedTimesteps(config, training);
  const whole = wholeTimesteps('linspace', last, config, 0, request.numInferenceSteps);
  const spaced = solverLevels(config, request, training, whole);
  const end = config.final_sigmas_type === 'zero' ? 0 : at(training, 0);
  return { timesteps: spaced.timesteps, levels: levelsOf([...spaced.sigmas, end], config) };
};

/** Makes the schedule of one image. */
export const createDpmSolverSinglestep = (config: DpmSolverSinglestepConfig, request: ScheduleRequest): Scheduler => {
  const { timesteps, levels } = levelsOfImage(config, request);
  const { algorithm_type: algorithm, solver_type: solverType } = config;
  const orders = singlestepOrders(config, timesteps.length);
  const visits = createMemory<Visited>();
  const samples = createMemory<Float32Array>();
  const derivatives = (index: number, order: number) => {
    const [target, now] = [levelAt(levels, index + 1), visits.of(index)];
    if (order === 1) return { source: now.level, prediction: now.prediction };
    if (order === 2) return singlestepSecond(target, now, visits.of(index - 1));
    return singlestepThird(solverType, target, now, visits.of(index - 1), visits.of(index - 2));
  };

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample, noise) {
      const level = levelAt(levels, index);
      visits.keep(index, { level, prediction: converted(config, modelOutput, sample, level) });
      samples.keep(index, sample);
      const order = at(orders, index);
      const fresh = isStochastic(algorithm) ? { noise: noise() } : {};
      const start = samples.of(index - order + 1);
      const target = levelAt(levels, index + 1);
      return update({ algorithm, solverType, target, sample: start, ...derivatives(index, order), ...fresh });
    },
  };
};
