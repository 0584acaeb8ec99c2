/** Options of scheduler_config.json that several schedulers share. */
import { z } from 'zod';

/** Added to `leading` timesteps; Stable Diffusion uses 1. */
export const stepsOffset = z.number().int().min(0).max(10_000).default(0);

/** Spacings of noise levels that replace the spacing of timesteps. */
export const sigmaSpacingKeys = {
  use_karras_sigmas: z.boolean().nullable().default(false),
  use_exponential_sigmas: z.boolean().nullable().default(false),
  use_beta_sigmas: z.boolean().nullable().default(false),
} as const;

/** Ends of the spacing; the schedule's own where absent. */
export const sigmaRangeKeys = {
  sigma_min: z.number().positive().nullable().default(null),
  sigma_max: z.number().positive().nullable().default(null),
} as const;

const SPACINGS = {
  use_karras_sigmas: 'karras',
  use_lu_lambdas: 'lu',
  use_exponential_sigmas: 'exponential',
  use_beta_sigmas: 'beta',
} as const;

export type SigmaSpacing = (typeof SPACINGS)[keyof typeof SPACINGS] | 'timesteps';

type SpacingFlags = Readonly<Partial<Record<keyof typeof SPACINGS, boolean | null>>>;

/** The options of a spacing that are on; a config with two of them is refused. */
export const spacingsOn = (config: SpacingFlags): readonly (keyof typeof SPACINGS)[] =>
  (Object.keys(SPACINGS) as (keyof typeof SPACINGS)[]).filter((key) => config[key] === true);

/** Which of the spacings is on. */
export const sigmaSpacing = (config: SpacingFlags): SigmaSpacing => {
  const [key] = spacingsOn(config);
  return key === undefined ? 'timesteps' : SPACINGS[key];
};
