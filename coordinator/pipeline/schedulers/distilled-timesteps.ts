/** Timesteps of the consistency models: a subset, evenly spaced by index, of those that the model was distilled on. */
import { z } from 'zod';
import { requestError } from '../errors.js';
import { at, linspace } from './float32.js';

export const distilledKeys = {
  original_inference_steps: z.number().int().min(1).max(10_000).default(50),
  timestep_scaling: z.number().positive().default(10),
} as const;

export interface DistilledConfig {
  readonly num_train_timesteps: number;
  readonly original_inference_steps: number;
}

/** A schedule of more original steps than there are timesteps has none of them. */
export const distilledProblems = (config: DistilledConfig): readonly string[] =>
  config.original_inference_steps > config.num_train_timesteps
    ? [
        `original_inference_steps is ${config.original_inference_steps}: expected at most num_train_timesteps (${config.num_train_timesteps}).`,
      ]
    : [];

/** Descending timesteps. @throws TandemError `REQUEST_INVALID` for more steps than were distilled */
export const distilledTimesteps = (config: DistilledConfig, count: number): number[] => {
  const originalSteps = config.original_inference_steps;
  if (count > originalSteps)
    throw requestError(
      `This model was distilled on ${originalSteps} steps and cannot make ${count}. Ask for at most ${originalSteps} steps; 4 to 8 are usual.`,
    );
  const stride = Math.floor(config.num_train_timesteps / originalSteps);
  const descending = Array.from({ length: originalSteps }, (_, index) => (originalSteps - index) * stride - 1);
  // NumPy's linspace without its end point is one with one more point and that point dropped.
  return linspace(0, originalSteps, count + 1)
    .slice(0, -1)
    .map((position) => at(descending, Math.floor(position)));
};
