/**
 * DEIS, multistep, of order 1 to 3: "Fast Sampling of Diffusion Models with Exponential Integrator", arXiv 2204.13902, with polynomials in
 * the logarithm of rho (its section 4); `DEISMultistepScheduler` in diffusers.
 */
import { z } from 'zod';
import { FEW_STEPS, multistepOrder } from './dpm-solver-multistep.js';
import { update } from './dpm-solver-updates.js';
import { at, f32 } from './float32.js';
import { trainingSigmas } from './noise-schedule.js';
import { denoised, noiseBeside } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { sigmaSpacing } from './shared-options.js';
import {
  type Level,
  levelAt,
  levelsOf,
  solverKeys,
  solverLevels,
  solverOrder,
  solverSpacingKeys,
  wholeTimesteps,
} from './solver-levels.js';
import { withinBounds } from './thresholding.js';
import { createMemory } from './two-stage.js';

export const deisConfig = z.object({
  ...solverKeys,
  ...solverSpacingKeys,
  solver_order: solverOrder,
  // Configs of other solvers name variants of their own; diffusers reads them as the one that there is, and so do we.
  algorithm_type: z.enum(['deis', 'dpmsolver', 'dpmsolver++']).default('deis'),
  solver_type: z.enum(['logrho', 'midpoint', 'heun', 'bh1', 'bh2']).default('logrho'),
  lower_order_final: z.boolean().default(true),
});
export type DeisConfig = z.infer<typeof deisConfig>;

const log = (value: number): number => f32(Math.log(value));

/** Antiderivative, over rho, of the line through 1 at log `b` and 0 at log `c`. */
const lineIntegral = (rho: number, b: number, c: number): number =>
  f32(f32(rho * f32(f32(-log(c) + log(rho)) - 1)) / f32(log(b) - log(c)));

/** Antiderivative, over rho, of the parabola through 1 at log `b` and 0 at log `c` and log `d`. */
const parabolaIntegral = (rho: number, b: number, c: number, d: number): number => {
  const [x, logC, logD] = [log(rho), log(c), log(d)];
  const inner = f32(f32(f32(logC * f32(f32(logD - x) + 1)) - f32(logD * x)) + logD);
  const numerator = f32(rho * f32(f32(f32(inner + f32(x * x)) - f32(2 * x)) + 2));
  return f32(numerator / f32(f32(log(b) - logC) * f32(log(b) - logD)));
};

/** Weights of the last predictions, newest first, in a step from `rhos[0]` to `target`. */
const weightsOf = (target: number, rhos: readonly number[]): readonly number[] => {
  const [now = 0, before = 0, beforeThat] = rhos;
  if (beforeThat === undefined)
    return [
      f32(lineIntegral(target, now, before) - lineIntegral(now, now, before)),
      f32(lineIntegral(target, before, now) - lineIntegral(now, before, now)),
    ];
  const over = (b: number, c: number, d: number): number =>
    f32(parabolaIntegral(target, b, c, d) - parabolaIntegral(now, b, c, d));
  return [over(now, before, beforeThat), over(before, beforeThat, now), over(beforeThat, now, before)];
};

const rhoOf = ({ alpha, sigma }: Level): number => f32(sigma / alpha);

const levelsOfImage = (config: DeisConfig, request: ScheduleRequest) => {
  const training = trainingSigmas(config);
  const count = request.numInferenceSteps;
  const train = config.num_train_timesteps;
  const whole = wholeTimesteps(config.timestep_spacing, train, config, config.steps_offset, count);
  const { sigmas, timesteps } = solverLevels(config, request, training, whole);
  // It cannot step to no noise; where the levels are spaced by themselves, diffusers stays at the last.
  const own = config.use_flow_sigmas || sigmaSpacing(config) !== 'timesteps';
  const end = own ? at(sigmas, sigmas.length - 1) : at(training, 0);
  return { timesteps, levels: levelsOf([...sigmas, end], config) };
};

/** Makes the schedule of one image. */
export const createDeis = (config: DeisConfig, request: ScheduleRequest): Scheduler => {
  const { timesteps, levels } = levelsOfImage(config, request);
  const outputs = createMemory<Float32Array>();
  const fallsAtEnd = config.lower_order_final && timesteps.length < FEW_STEPS;
  const noiseOf = (output: Float32Array, sample: Float32Array, level: Level): Float32Array =>
    noiseBeside(withinBounds(config, denoised(config.prediction_type, output, sample, level)), sample, level);

  const multistep = (index: number, order: number, sample: Float32Array): Float32Array => {
    const target = levelAt(levels, index + 1);
    const past = Array.from({ length: order }, (_, back) => index - back);
    const rhos = past.map((step) => rhoOf(levelAt(levels, step)));
    const weights = weightsOf(rhoOf(target), rhos);
    const { alpha } = levelAt(levels, index);
    return sample.map((x, element) => {
      const sum = past.reduce(
        (total, step, back) => f32(total + f32(at(weights, back) * at(outputs.of(step), element))),
        f32(x / alpha),
      );
      return target.alpha * sum;
    });
  };

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample) {
      const source = levelAt(levels, index);
      const prediction = outputs.keep(index, noiseOf(modelOutput, sample, source));
      const order = multistepOrder(config.solver_order, index, timesteps.length, { endsLow: fallsAtEnd, fallsAtEnd });
      if (order > 1) return multistep(index, order, sample);
      const target = levelAt(levels, index + 1);
      return update({ algorithm: 'dpmsolver', solverType: 'midpoint', target, sample, source, prediction });
    },
  };
};
