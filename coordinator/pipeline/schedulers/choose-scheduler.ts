/**
 * From a scheduler_config.json to the scheduler that runs it: that of the class that the file names, or another one that was asked for,
 * also where the file's own class is not known or its options could not be run.
 */
import { z } from 'zod';
import { TandemError } from '../../../common/errors.js';
import { requestError, SCHEDULER_UNSUPPORTED } from '../errors.js';
import {
  describeIssue,
  SCHEDULER_NAMES,
  SCHEDULERS,
  type SchedulerFactory,
  type SchedulerFamily,
  type SchedulerName,
} from './registry.js';

/** A checked config, ready to make the schedule of any number of images. */
export interface SchedulerChoice {
  readonly name: SchedulerName;
  /** @throws TandemError `REQUEST_INVALID` when the number of steps is not possible */
  create: SchedulerFactory;
}

const supported = (): string => SCHEDULER_NAMES.map((name) => `${SCHEDULERS[name].className} (${name})`).join(', ');

const unsupported = (problems: readonly string[]): TandemError =>
  new TandemError(
    SCHEDULER_UNSUPPORTED,
    `The scheduler of this model cannot be run as configured: ${problems.join(' ')} Supported are ${supported()}; ` +
      'choose one of them with --scheduler, which keeps the betas of scheduler_config.json.',
    { problems },
  );

const header = z.looseObject({
  // Not read where another scheduler was asked for.
  _class_name: z.string().optional(),
  use_flow_sigmas: z.unknown().optional(),
  prediction_type: z.unknown().optional(),
  shift: z.unknown().optional(),
  flow_shift: z.unknown().optional(),
});
type Header = z.infer<typeof header>;

const isFlowClass = (className: string | undefined): boolean => className?.startsWith('FlowMatch') ?? false;

const familyOf = (config: Header): SchedulerFamily =>
  isFlowClass(config._class_name) || config.use_flow_sigmas === true || config.prediction_type === 'flow_prediction'
    ? 'flow'
    : 'diffusion';

const nameOf = (className: string | undefined): SchedulerName => {
  if (className === undefined) throw unsupported(['_class_name is nothing: expected the name of a class.']);
  const name = SCHEDULER_NAMES.find((candidate) => SCHEDULERS[candidate].className === className);
  if (name === undefined) throw unsupported([`found the class ${className}.`]);
  return name;
};

const checkFamily = (name: SchedulerName, config: Header): void => {
  const family = familyOf(config);
  const { families, className } = SCHEDULERS[name];
  if (families.some((candidate) => candidate === family)) return;
  throw unsupported([
    className === config._class_name
      ? `${className} does not run flows: expected use_flow_sigmas to be off and prediction_type to be another than "flow_prediction".`
      : `"${name}" was asked for, but the model was trained for ${config._class_name ?? 'another'}: a ${family} model cannot be run by a ${families.join(' or ')} scheduler.`,
  ]);
};

/** Flow classes and the solvers that also run flows say the same by other names. */
const translated = (name: SchedulerName, config: Header): Record<string, unknown> => {
  const toFlowClass = isFlowClass(SCHEDULERS[name].className);
  if (toFlowClass === isFlowClass(config._class_name)) return config;
  if (toFlowClass) return { ...config, shift: config.flow_shift };
  return { ...config, use_flow_sigmas: true, prediction_type: 'flow_prediction', flow_shift: config.shift };
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
  if (!head.success) throw unsupported(head.error.issues.map((issue) => describeIssue(config, issue)));
  const name = override ?? nameOf(head.data._class_name);
  checkFamily(name, head.data);
  const parsed = SCHEDULERS[name].parse(translated(name, head.data));
  if ('problems' in parsed) throw unsupported(parsed.problems);
  return {
    name,
    create(request) {
      checkSteps(request.numInferenceSteps, parsed.trainSteps);
      return parsed.create(request);
    },
  };
};
