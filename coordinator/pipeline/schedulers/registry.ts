/**
 * Every scheduler that Tandem has, by the class that scheduler_config.json names. A config of another class can be run by
 * one of these where the network was trained on the same forward process: the betas and the options that both classes
 * know are kept, the rest takes the class's own defaults, as `from_config` does in diffusers.
 */
import type { z } from 'zod';
import { createDdim, ddimConfig } from './ddim.js';
import { createDdpm, ddpmConfig } from './ddpm.js';
import { createDeis, deisConfig } from './deis.js';
import { distilledProblems } from './distilled-timesteps.js';
import { createDpmSolverMultistep, dpmSolverMultistepConfig } from './dpm-solver-multistep.js';
import { dpmSolverProblems } from './dpm-solver-options.js';
import { createDpmSolverSde, dpmSolverSdeConfig } from './dpm-solver-sde.js';
import { createDpmSolverSinglestep, dpmSolverSinglestepConfig } from './dpm-solver-singlestep.js';
import { createEuler, eulerConfig } from './euler.js';
import { createEulerAncestral, eulerAncestralConfig } from './euler-ancestral.js';
import {
  createFlowMatchEuler,
  createFlowMatchLcm,
  flowMatchEulerConfig,
  flowMatchLcmConfig,
} from './flow-match-euler.js';
import { createFlowMatchHeun, createHeun, flowMatchHeunConfig, heunConfig } from './heun.js';
import { createKdpm2, createKdpm2Ancestral, kdpm2Config } from './kdpm2.js';
import { createLcm, lcmConfig } from './lcm.js';
import { createLms, lmsConfig } from './lms.js';
import { createPndm, pndmConfig } from './pndm.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { spacingsOn } from './shared-options.js';
import { solverLevelProblems } from './solver-levels.js';
import { createTcd, tcdConfig } from './tcd.js';
import { createUnipc, unipcConfig, unipcProblems } from './unipc.js';

/** Networks trained on one family's forward process mean nothing to the other's solvers. */
export type SchedulerFamily = 'diffusion' | 'flow';

export type SchedulerFactory = (request: ScheduleRequest) => Scheduler;

interface CommonConfig {
  readonly num_train_timesteps: number;
  readonly trained_betas?: readonly number[] | null;
  readonly use_karras_sigmas?: boolean | null;
  readonly use_exponential_sigmas?: boolean | null;
  readonly use_beta_sigmas?: boolean | null;
  readonly use_lu_lambdas?: boolean | null;
}

type Parsed =
  | { readonly problems: readonly string[] }
  | { readonly create: SchedulerFactory; readonly trainSteps: number };

export interface SchedulerEntry {
  /** Class name in diffusers. */
  readonly className: string;
  /** What its networks may be trained on. */
  readonly families: readonly SchedulerFamily[];
  /** Checks the options; the result makes schedules. */
  parse(options: unknown): Parsed;
}

const valueAt = (options: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    options,
  );

/** Long values are cut: a list of betas says no more by its hundredth. */
const MAX_SHOWN = 60;

const shown = (value: unknown): string => {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
};

/** An issue by the option's name and value. */
export const describeIssue = (options: unknown, issue: z.core.$ZodIssue): string =>
  `${issue.path.join('.') || 'scheduler_config.json'} is ${shown(valueAt(options, issue.path))}: ${issue.message}.`;

const commonProblems = (config: CommonConfig): readonly string[] => {
  const betas = config.trained_betas?.length ?? config.num_train_timesteps;
  const spacings = spacingsOn(config);
  return [
    ...(betas === config.num_train_timesteps
      ? []
      : [`trained_betas has ${betas} values: expected num_train_timesteps (${config.num_train_timesteps}) of them.`]),
    ...(spacings.length > 1 ? [`${spacings.join(' and ')} are both on: expected one of them at most.`] : []),
  ];
};

interface EntryOptions<Config> {
  readonly className: string;
  readonly families: readonly SchedulerFamily[];
  readonly schema: z.ZodType<Config>;
  /** What is wrong between options that are right by themselves. */
  readonly problems?: (config: Config) => readonly string[];
  create(config: Config, request: ScheduleRequest): Scheduler;
}

const entry = <Config extends CommonConfig>(options: EntryOptions<Config>): SchedulerEntry => ({
  className: options.className,
  families: options.families,
  parse(raw) {
    const parsed = options.schema.safeParse(raw);
    if (!parsed.success) return { problems: parsed.error.issues.map((issue) => describeIssue(raw, issue)) };
    const problems = [...commonProblems(parsed.data), ...(options.problems?.(parsed.data) ?? [])];
    if (problems.length > 0) return { problems };
    return {
      create: (request) => options.create(parsed.data, request),
      trainSteps: parsed.data.num_train_timesteps,
    };
  },
});

const DIFFUSION = ['diffusion'] as const;
const FLOW = ['flow'] as const;
const BOTH = ['diffusion', 'flow'] as const;

/** By the names of the command line's `--scheduler`. */
export const SCHEDULERS = {
  ddim: entry({ className: 'DDIMScheduler', families: DIFFUSION, schema: ddimConfig, create: createDdim }),
  ddpm: entry({ className: 'DDPMScheduler', families: DIFFUSION, schema: ddpmConfig, create: createDdpm }),
  pndm: entry({ className: 'PNDMScheduler', families: DIFFUSION, schema: pndmConfig, create: createPndm }),
  euler: entry({ className: 'EulerDiscreteScheduler', families: DIFFUSION, schema: eulerConfig, create: createEuler }),
  'euler-ancestral': entry({
    className: 'EulerAncestralDiscreteScheduler',
    families: DIFFUSION,
    schema: eulerAncestralConfig,
    create: createEulerAncestral,
  }),
  heun: entry({ className: 'HeunDiscreteScheduler', families: DIFFUSION, schema: heunConfig, create: createHeun }),
  lms: entry({ className: 'LMSDiscreteScheduler', families: DIFFUSION, schema: lmsConfig, create: createLms }),
  kdpm2: entry({ className: 'KDPM2DiscreteScheduler', families: DIFFUSION, schema: kdpm2Config, create: createKdpm2 }),
  'kdpm2-ancestral': entry({
    className: 'KDPM2AncestralDiscreteScheduler',
    families: DIFFUSION,
    schema: kdpm2Config,
    create: createKdpm2Ancestral,
  }),
  'dpmpp-2m': entry({
    className: 'DPMSolverMultistepScheduler',
    families: BOTH,
    schema: dpmSolverMultistepConfig,
    problems: dpmSolverProblems,
    create: createDpmSolverMultistep,
  }),
  'dpmpp-singlestep': entry({
    className: 'DPMSolverSinglestepScheduler',
    families: BOTH,
    schema: dpmSolverSinglestepConfig,
    problems: dpmSolverProblems,
    create: createDpmSolverSinglestep,
  }),
  'dpmpp-sde': entry({
    className: 'DPMSolverSDEScheduler',
    families: DIFFUSION,
    schema: dpmSolverSdeConfig,
    create: createDpmSolverSde,
  }),
  deis: entry({
    className: 'DEISMultistepScheduler',
    families: BOTH,
    schema: deisConfig,
    problems: solverLevelProblems,
    create: createDeis,
  }),
  unipc: entry({
    className: 'UniPCMultistepScheduler',
    families: BOTH,
    schema: unipcConfig,
    problems: unipcProblems,
    create: createUnipc,
  }),
  lcm: entry({
    className: 'LCMScheduler',
    families: DIFFUSION,
    schema: lcmConfig,
    problems: distilledProblems,
    create: createLcm,
  }),
  tcd: entry({
    className: 'TCDScheduler',
    families: DIFFUSION,
    schema: tcdConfig,
    problems: distilledProblems,
    create: createTcd,
  }),
  'flow-match-euler': entry({
    className: 'FlowMatchEulerDiscreteScheduler',
    families: FLOW,
    schema: flowMatchEulerConfig,
    create: createFlowMatchEuler,
  }),
  'flow-match-heun': entry({
    className: 'FlowMatchHeunDiscreteScheduler',
    families: FLOW,
    schema: flowMatchHeunConfig,
    create: createFlowMatchHeun,
  }),
  'flow-match-lcm': entry({
    className: 'FlowMatchLCMScheduler',
    families: FLOW,
    schema: flowMatchLcmConfig,
    create: createFlowMatchLcm,
  }),
} as const satisfies Readonly<Record<string, SchedulerEntry>>;

export type SchedulerName = keyof typeof SCHEDULERS;

/** Names for the command line's `--scheduler`. */
export const SCHEDULER_NAMES = Object.keys(SCHEDULERS) as [SchedulerName, ...SchedulerName[]];
