/** Options of scheduler_config.json that several schedulers share. */
import { z } from 'zod';

/** What the network was trained to predict. */
export const predictionType = z.enum(['epsilon', 'sample', 'v_prediction']).default('epsilon');

/** An option that diffusers has and Tandem has not: absent or off is fine, on is an error that names it. */
export const disabledFlag = (name: string) =>
  z
    .union([z.literal(false), z.null()], {
      error: `is not supported: expected false or absent. Set "${name}" to false, or use another scheduler`,
    })
    .default(false);

/** Spacings of noise levels that replace the spacing of timesteps. */
export const sigmaSpacingKeys = {
  use_karras_sigmas: z.boolean().nullable().default(false),
  use_exponential_sigmas: z.boolean().nullable().default(false),
  use_beta_sigmas: disabledFlag('use_beta_sigmas'),
} as const;

/** Ends of the spacing; the schedule's own where absent. */
export const sigmaRangeKeys = {
  sigma_min: z.number().positive().nullable().default(null),
  sigma_max: z.number().positive().nullable().default(null),
} as const;

/** Which of the spacings is on; a config with two on is refused by `oneSigmaSpacing`. */
export const sigmaSpacing = (config: {
  readonly use_karras_sigmas: boolean | null;
  readonly use_exponential_sigmas: boolean | null;
}): 'timesteps' | 'karras' | 'exponential' =>
  config.use_karras_sigmas ? 'karras' : config.use_exponential_sigmas ? 'exponential' : 'timesteps';
