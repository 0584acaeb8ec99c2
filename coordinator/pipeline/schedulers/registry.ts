/**
 * Every scheduler that Tandem has, by the class that scheduler_config.json names. A config of another class can be run by
 * one of these where the network was trained on the same forward process: the betas and the options that both classes
 * know are kept, the rest takes the class's own defaults, as `from_config` does in diffusers.
 */
import { z } from 'zod';
import { TandemError } from '../../../common/errors.js';
import { requestError, SCHEDULER_UNSUPPORTED } from '../errors.js';
import { createDdim, ddimConfig } from './ddim.js';
import { createDpmSolver, dpmSolverConfig } from './dpm-solver-multistep.js';
import { createEuler, eulerConfig } from './euler.js';
import { createFlowMatchEuler, flowMatchEulerConfig } from './flow-match-euler.js';
import { createLcm, lcmConfig } from './lcm.js';
import { schedulerLimits } from './limits.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';

/** Names for the command line's `--scheduler`. */
export const SCHEDULER_NAMES = ['ddim', 'euler', 'dpmpp-2m', 'lcm', 'flow-match-euler'] as const;
export type SchedulerName = (typeof SCHEDULER_NAMES)[number];

/** Networks trained on one family's forward process mean nothing to the other's solvers. */
type Family = 'diffusion' | 'flow';

interface Entry {
  /** Class name in diffusers. */
  readonly className: string;
  readonly family: Family;
  /** Checks the options; the result makes schedules. */
  parse(
    options: unknown,
  ): { readonly error: z.ZodError } | { readonly create: SchedulerFactory; readonly trainSteps: number };
}

export type SchedulerFactory = (request: ScheduleRequest) => Scheduler;

const entry = <Config extends { readonly num_train_timesteps: number }>(
  className: string,
  family: Family,
  schema: z.ZodType<Config>,
  create: (config: Config, request: ScheduleRequest) => Scheduler,
): Entry => ({
  className,
  family,
  parse(options) {
    const parsed = schema.safeParse(options);
    if (!parsed.success) return { error: parsed.error };
    return { create: (request) => create(parsed.data, request), trainSteps: parsed.data.num_train_timesteps };
  },
});

const REGISTRY: Readonly<Record<SchedulerName, Entry>> = {
  ddim: entry('DDIMScheduler', 'diffusion', ddimConfig, createDdim),
  euler: entry('EulerDiscreteScheduler', 'diffusion', eulerConfig, createEuler),
  'dpmpp-2m': entry('DPMSolverMultistepScheduler', 'diffusion', dpmSolverConfig, createDpmSolver),
  lcm: entry('LCMScheduler', 'diffusion', lcmConfig, createLcm),
  'flow-match-euler': entry('FlowMatchEulerDiscreteScheduler', 'flow', flowMatchEulerConfig, createFlowMatchEuler),
};

/** A checked config, ready to make the schedule of any number of images. */
export interface SchedulerChoice {
  readonly name: SchedulerName;
  /** @throws TandemError `REQUEST_INVALID` when the number of steps is not possible */
  create: SchedulerFactory;
}

const describe = (issue: z.core.$ZodIssue): string =>
  `${issue.path.join('.') || 'scheduler_config.json'} ${issue.message}.`;

const supported = (): string => SCHEDULER_NAMES.map((name) => `${REGISTRY[name].className} (${name})`).join(', ');

const unsupported = (problems: readonly string[]): TandemError =>
  new TandemError(
    SCHEDULER_UNSUPPORTED,
    `The scheduler of this model cannot be run as configured: ${problems.join(' ')} Supported are ${supported()}; ` +
      'choose one of them with --scheduler, which keeps the betas of scheduler_config.json.',
    { problems },
  );

const nameOf = (className: string): SchedulerName | undefined =>
  SCHEDULER_NAMES.find((name) => REGISTRY[name].className === className);

const familyOf = (className: string): Family => (className.startsWith('FlowMatch') ? 'flow' : 'diffusion');

const header = z.looseObject({
  _class_name: z.string(),
  use_karras_sigmas: z.unknown().optional(),
  use_exponential_sigmas: z.unknown().optional(),
});

const choose = (className: string, override: SchedulerName | undefined): SchedulerName => {
  const name = override ?? nameOf(className);
  if (name === undefined) throw unsupported([`found the class ${className}.`]);
  const { family } = REGISTRY[name];
  if (family !== familyOf(className))
    throw unsupported([
      `"${name}" was asked for, but the model was trained for ${className}: a ${familyOf(className)} model cannot be run by a ${family} scheduler.`,
    ]);
  return name;
};

const checkSteps = (steps: number, trainSteps: number): void => {
  if (Number.isInteger(steps) && steps >= 1 && steps <= trainSteps) return;
  throw requestError(`Expected num_inference_steps to be a whole number from 1 to ${trainSteps}, found ${steps}.`);
};

/**
 * Checks a scheduler_config.json and picks the scheduler that runs it.
 * @param config the parsed file
 * @param override runs the config by this scheduler in place of the class that the file names
 * @throws TandemError `SCHEDULER_UNSUPPORTED` with all the options that are unknown or malformed
 */
export const chooseScheduler = (config: unknown, override?: SchedulerName): SchedulerChoice => {
  const head = header.safeParse(config);
  if (!head.success) throw unsupported(head.error.issues.map(describe));
  const limits = schedulerLimits.safeParse(config);
  if (!limits.success) throw unsupported(limits.error.issues.map(describe));
  const name = choose(head.data._class_name, override);
  if (head.data.use_karras_sigmas && head.data.use_exponential_sigmas)
    throw unsupported(['use_karras_sigmas and use_exponential_sigmas are both on: expected one of them at most.']);
  const parsed = REGISTRY[name].parse(config);
  if ('error' in parsed) throw unsupported(parsed.error.issues.map(describe));
  return {
    name,
    create(request) {
      checkSteps(request.numInferenceSteps, parsed.trainSteps);
      return parsed.create(request);
    },
  };
};
