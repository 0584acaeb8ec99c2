/** What DPM-Solver's two forms, multistep and singlestep, share: their options, and what they make of a prediction. */
import { z } from 'zod';
import { type Algorithm, predictsDenoised, type SolverType } from './dpm-solver-updates.js';
import { denoised, noiseBeside, noiseIn } from './predictions.js';
import { type Level, type SolverConfig, solverKeys, solverLevelProblems, solverOrder } from './solver-levels.js';
import { withinBounds } from './thresholding.js';

/** Variants that other classes have, by the ones that diffusers reads them as. */
const solverTypes = z
  .enum(['midpoint', 'heun', 'logrho', 'bh1', 'bh2'])
  .transform((type): SolverType => (type === 'heun' ? 'heun' : 'midpoint'));

export const dpmSolverKeys = {
  ...solverKeys,
  solver_order: solverOrder,
  solver_type: solverTypes.default('midpoint'),
  final_sigmas_type: z.enum(['zero', 'sigma_min']).default('zero'),
  lambda_min_clipped: z.number().or(z.literal(Number.NEGATIVE_INFINITY)).default(Number.NEGATIVE_INFINITY),
  // Learned variances need a network with twice the channels.
  variance_type: z.enum(['fixed_small', 'fixed_small_log', 'fixed_large']).nullable().default(null),
} as const;

export interface DpmSolverConfig extends SolverConfig {
  readonly solver_order: 1 | 2 | 3;
  readonly algorithm_type: Algorithm;
  readonly solver_type: SolverType;
  readonly final_sigmas_type: 'zero' | 'sigma_min';
  readonly lambda_min_clipped: number;
}

export const dpmSolverProblems = (config: DpmSolverConfig): readonly string[] => {
  const problems = [...solverLevelProblems(config)];
  const noisy = !predictsDenoised(config.algorithm_type);
  if (noisy && config.final_sigmas_type === 'zero')
    problems.push(
      `final_sigmas_type is "zero" with algorithm_type "${config.algorithm_type}": expected "sigma_min", or an algorithm that ends in ++.`,
    );
  if (noisy && config.prediction_type === 'flow_prediction')
    problems.push(
      `prediction_type is "flow_prediction" with algorithm_type "${config.algorithm_type}": expected an algorithm that ends in ++.`,
    );
  if (config.algorithm_type === 'sde-dpmsolver' && config.solver_order === 3)
    problems.push('solver_order is 3 with algorithm_type "sde-dpmsolver": expected 1 or 2.');
  return problems;
};

/** Number of training timesteps whose lambda is not clipped. */
export const unclippedTimesteps = (config: DpmSolverConfig, training: Float32Array): number =>
  config.num_train_timesteps - training.filter((sigma) => -Math.log(sigma) < config.lambda_min_clipped).length;

/** The denoised sample or the noise, whichever the algorithm works on. */
export const converted = (
  config: DpmSolverConfig,
  output: Float32Array,
  sample: Float32Array,
  level: Level,
): Float32Array => {
  const { prediction_type } = config;
  if (predictsDenoised(config.algorithm_type) || prediction_type === 'flow_prediction')
    return withinBounds(config, denoised(prediction_type, output, sample, level));
  const noise = noiseIn(prediction_type, output, sample, level);
  if (!config.thresholding) return noise;
  return noiseBeside(withinBounds(config, denoised('epsilon', noise, sample, level)), sample, level);
};
