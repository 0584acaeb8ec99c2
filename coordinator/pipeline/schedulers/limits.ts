/**
 * How large the numbers of a scheduler_config.json may be, whatever the class: schedules are made as arrays of that many values, and
 * what is far beyond any model is damage.
 */
import { z } from 'zod';

const MAX_TIMESTEPS = 100_000;
const DEFAULT_TIMESTEPS = 1000;

const timesteps = z.number().int().min(2).max(MAX_TIMESTEPS);

export const schedulerLimits = z
  .looseObject({
    num_train_timesteps: timesteps.default(DEFAULT_TIMESTEPS),
    original_inference_steps: z.number().int().positive().max(MAX_TIMESTEPS).nullish(),
    steps_offset: z.number().int().min(0).max(MAX_TIMESTEPS).nullish(),
    trained_betas: z.array(z.number().min(0).max(1)).min(2).max(MAX_TIMESTEPS).nullish(),
  })
  .superRefine((config, context) => {
    const { num_train_timesteps: trained, trained_betas: betas, original_inference_steps: original } = config;
    const problem = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (betas && betas.length !== trained)
      problem('trained_betas', `has ${betas.length} values: expected ${trained}, one for each of num_train_timesteps`);
    if (original != null && original > trained)
      problem('original_inference_steps', `is ${original}: expected at most ${trained}, the num_train_timesteps`);
  });
