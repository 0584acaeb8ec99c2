import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { betaQuantile } from '#tandem/coordinator/pipeline/schedulers/beta-quantile.js';
import { chooseScheduler } from '#tandem/coordinator/pipeline/schedulers/choose-scheduler.js';
import { SCHEDULER_NAMES, SCHEDULERS, type SchedulerName } from '#tandem/coordinator/pipeline/schedulers/registry.js';
import type { ScheduleRequest } from '#tandem/coordinator/pipeline/schedulers/scheduler.js';
import { GOLDENS, relativeError } from './helpers.js';

const numbers = z.array(z.number());

const runSchema = z.object({
  num_inference_steps: z.number(),
  arguments: z.object({ mu: z.number().optional(), sigmas: numbers.optional() }),
  timesteps: numbers,
  init_noise_sigma: z.number(),
  inputs: numbers,
  samples: z.array(numbers),
  noises: z.number(),
});
type Run = z.infer<typeof runSchema>;

const { cases } = z
  .object({
    cases: z.array(
      z.object({
        name: z.string(),
        class_name: z.string(),
        config: z.looseObject({ _class_name: z.string() }),
        runs: z.array(runSchema),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(join(GOLDENS, 'schedulers.json'), 'utf8')));

const ELEMENTS = 4;
const vector = (value: (index: number) => number): Float32Array =>
  Float32Array.from({ length: ELEMENTS }, (_, index) => value(index));

// The formulas that the goldens were made with; schedulers.json states them.
const start = (sigma: number): Float32Array => vector((i) => Math.fround(Math.cos(0.9 * i)) * sigma);
const modelOutput = (scaled: Float32Array, timestep: number): Float32Array =>
  scaled.map((x, i) => Math.fround(Math.fround(0.3) * x) + Math.fround(Math.sin(0.7 * i + 0.005 * timestep + 0.1)));
const noise = (draw: number): Float32Array => vector((i) => Math.cos(1.3 * i + 0.5 * draw + 0.2));

const requestOf = (run: Run): ScheduleRequest => ({
  numInferenceSteps: run.num_inference_steps,
  ...(run.arguments.mu === undefined ? {} : { mu: run.arguments.mu }),
  ...(run.arguments.sigmas === undefined ? {} : { sigmas: run.arguments.sigmas }),
});

const nameOf = (className: string): SchedulerName => {
  const name = SCHEDULER_NAMES.find((candidate) => SCHEDULERS[candidate].className === className);
  if (name === undefined) throw new Error(`${className} is not in the registry`);
  return name;
};

/**
 * Largest difference from PyTorch's float32 results after one call, relative to the largest value. Rounding is that of one call, as each
 * starts from the golden's sample; coefficients that are differences of logarithms, or solutions of equations, lose a few bits more.
 */
const TOLERANCE = 1e-5;

describe.each(cases)('$name', ({ class_name, config, runs }) => {
  it.each(runs)('gives the timesteps, scales and steps of diffusers in $num_inference_steps steps', (run) => {
    const override = class_name === config._class_name ? undefined : nameOf(class_name);
    const scheduler = chooseScheduler(config, override).create(requestOf(run));
    expect(relativeError(scheduler.timesteps, run.timesteps)).toBeLessThan(1e-6);
    expect(scheduler.initNoiseSigma / run.init_noise_sigma).toBeCloseTo(1, 6);

    let draws = 0;
    // Each call starts from the golden's latents, so that rounding does not add up over the calls.
    run.samples.forEach((expected, index) => {
      const sample = index === 0 ? start(run.init_noise_sigma) : Float32Array.from(run.samples[index - 1] ?? []);
      const scaled = scheduler.scaleModelInput(sample, index);
      expect(relativeError(scaled.subarray(0, 1), run.inputs.slice(index, index + 1))).toBeLessThan(TOLERANCE);
      const output = modelOutput(scaled, run.timesteps[index] ?? Number.NaN);
      const stepped = scheduler.step(output, index, sample, () => noise(draws++));
      expect(relativeError(stepped, expected), `call ${index}`).toBeLessThan(TOLERANCE);
    });
    expect(draws).toBe(run.noises);
  });
});

const SD15 = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear', steps_offset: 1 };
const DIFFUSION_NAMES = SCHEDULER_NAMES.filter((name) => !name.startsWith('flow-match'));

/** What an image whose noise and predictions are made up ends in. */
const pictureOf = (config: unknown, name: SchedulerName | undefined, steps: number): number[] => {
  const scheduler = chooseScheduler(config, name).create({ numInferenceSteps: steps, imageSequenceLength: 1024 });
  let draws = 0;
  const final = scheduler.timesteps.reduce<Float32Array>((sample, timestep, index) => {
    const output = modelOutput(scheduler.scaleModelInput(sample, index), timestep);
    return scheduler.step(output, index, sample, () => noise(draws++));
  }, start(scheduler.initNoiseSigma));
  return [...final];
};

describe('a scheduler', () => {
  it('has a golden of its own, whichever it is', () => {
    const proved = new Set(cases.map(({ class_name }) => class_name));
    expect(SCHEDULER_NAMES.filter((name) => !proved.has(SCHEDULERS[name].className))).toEqual([]);
  });

  it.each(SCHEDULER_NAMES)('called %s gives finite pictures for any number of steps that it allows', (name) => {
    const config = name.startsWith('flow-match') ? { _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 3 } : SD15;
    for (const steps of [4, 5, 17, 50])
      expect(pictureOf({ _class_name: 'DDIMScheduler', ...config }, name, steps).every(Number.isFinite)).toBe(true);
  });

  it('that calls the network twice a step gives the same sample when either call is made again', () => {
    for (const name of ['heun', 'kdpm2'] as const) {
      const scheduler = chooseScheduler({ _class_name: 'PNDMScheduler', ...SD15 }, name).create({
        numInferenceSteps: 3,
      });
      expect(scheduler.timesteps).toHaveLength(5);
      const first = scheduler.step(modelOutput(start(1), 900), 0, start(14), () => noise(0));
      const second = scheduler.step(modelOutput(start(1), 800), 1, first, () => noise(0));
      expect(scheduler.step(modelOutput(start(1), 900), 0, start(14), () => noise(0))).toEqual(first);
      expect(scheduler.step(modelOutput(start(1), 800), 1, first, () => noise(0))).toEqual(second);
    }
  });
});

describe('the quantiles of the beta spacing', () => {
  // scipy.stats.beta.ppf(p, 0.6, 0.6)
  it.each([
    [0, 0],
    [1e-6, 1.8558824624e-10],
    [0.01, 0.00086123882154],
    [0.25, 0.1756803786527],
    [0.5, 0.5],
    [0.9, 0.9604155944113],
    [1, 1],
  ])('are those of SciPy at %f', (probability, quantile) => {
    expect(betaQuantile(probability)).toBeCloseTo(quantile, 12);
  });
});

describe('a scheduler config', () => {
  it('of a class that is not known is refused with the classes that are', () => {
    expect(() => chooseScheduler({ _class_name: 'EDMEulerScheduler', ...SD15 })).toThrow(
      /EDMEulerScheduler.*DDIMScheduler \(ddim\).*FlowMatchEulerDiscreteScheduler \(flow-match-euler\).*--scheduler/,
    );
  });

  it.each(DIFFUSION_NAMES)('of a class that is not known runs by %s, with its own betas', (name) => {
    const known = pictureOf({ _class_name: SCHEDULERS[name].className, ...SD15 }, undefined, 5);
    expect(pictureOf({ _class_name: 'EDMEulerScheduler', ...SD15 }, name, 5)).toEqual(known);
    expect(pictureOf({ _class_name: 'EDMEulerScheduler', ...SD15, beta_end: 0.02 }, name, 5)).not.toEqual(known);
  });

  it('that would be refused runs by another scheduler, which does not have the option', () => {
    const config = { _class_name: 'DPMSolverMultistepScheduler', ...SD15, algorithm_type: 'unheard-of' };
    expect(() => chooseScheduler(config)).toThrow('algorithm_type is "unheard-of"');
    expect(chooseScheduler(config, 'euler').name).toBe('euler');
  });

  it('of a diffusion model is not run as a flow, nor the other way round', () => {
    expect(() => chooseScheduler({ _class_name: 'DDIMScheduler', ...SD15 }, 'flow-match-euler')).toThrow(
      'a diffusion model cannot be run by a flow scheduler',
    );
    expect(() => chooseScheduler({ _class_name: 'FlowMatchEulerDiscreteScheduler' }, 'euler')).toThrow(
      'a flow model cannot be run by a diffusion scheduler',
    );
    expect(() =>
      chooseScheduler({ _class_name: 'EulerDiscreteScheduler', prediction_type: 'flow_prediction' }),
    ).toThrow('EulerDiscreteScheduler does not run flows');
  });

  it('of a flow runs by the solvers that know flows, with its shift', () => {
    const flow = { _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 3 };
    const own = { use_flow_sigmas: true, prediction_type: 'flow_prediction', flow_shift: 3 };
    for (const name of ['unipc', 'dpmpp-2m', 'dpmpp-singlestep', 'deis'] as const) {
      const config = { _class_name: SCHEDULERS[name].className, ...own };
      expect(pictureOf(flow, name, 6)).toEqual(pictureOf(config, undefined, 6));
      expect(pictureOf(config, 'flow-match-euler', 6)).toEqual(pictureOf(flow, undefined, 6));
    }
  });

  it('with options that are not supported is refused with all of them, by name and value', () => {
    const config = {
      _class_name: 'DPMSolverMultistepScheduler',
      algorithm_type: 'sde-dpmsolver+++',
      solver_type: 'magic',
      beta_schedule: 'exotic',
      prediction_type: 'guess',
      timestep_spacing: 'random',
    };
    for (const [key, value] of Object.entries(config).slice(1))
      expect(() => chooseScheduler(config)).toThrow(`${key} is "${value}"`);
  });

  it.each([
    ['num_train_timesteps', 2e9],
    ['num_train_timesteps', 0.5],
    ['steps_offset', -1],
    ['steps_offset', 1e9],
    ['beta_start', -0.1],
    ['beta_end', Number.NaN],
    ['beta_end', 1.5],
    ['trained_betas', [0.1, 'b']],
    ['timestep_spacing', null],
  ])('with %s of %s is refused by name', (key, value) => {
    expect(() => chooseScheduler({ _class_name: 'DDIMScheduler', [key]: value })).toThrow(key);
  });

  it.each([
    ['trained_betas has 3 values', 'DDIMScheduler', { trained_betas: [0.1, 0.2, 0.3] }],
    ['original_inference_steps is 1000000000', 'LCMScheduler', { original_inference_steps: 1e9 }],
    ['original_inference_steps is 2000', 'TCDScheduler', { original_inference_steps: 2000 }],
    ['solver_order is 4', 'DPMSolverMultistepScheduler', { solver_order: 4 }],
    ['solver_order is 7', 'UniPCMultistepScheduler', { solver_order: 7 }],
    ['final_sigmas_type is "zero"', 'DPMSolverMultistepScheduler', { algorithm_type: 'dpmsolver' }],
    ['predict_x0 is false', 'UniPCMultistepScheduler', { predict_x0: false }],
    ['algorithm_type is "sde-dpmsolver++"', 'DEISMultistepScheduler', { algorithm_type: 'sde-dpmsolver++' }],
    ['variance_type is "learned_range"', 'DDPMScheduler', { variance_type: 'learned_range' }],
    ['prediction_type is "sample"', 'EulerAncestralDiscreteScheduler', { prediction_type: 'sample' }],
    ['use_flow_sigmas is on beside', 'DPMSolverMultistepScheduler', { use_flow_sigmas: true, use_beta_sigmas: true }],
    ['without use_flow_sigmas', 'UniPCMultistepScheduler', { prediction_type: 'flow_prediction' }],
    ['both on', 'EulerDiscreteScheduler', { use_karras_sigmas: true, use_exponential_sigmas: true }],
    ['both on', 'DPMSolverMultistepScheduler', { use_lu_lambdas: true, use_beta_sigmas: true }],
  ])('is refused where its options do not go together: %s', (message, className, options) => {
    expect(() => chooseScheduler({ _class_name: className, ...options })).toThrow(message);
  });

  it('whose offset leads beyond the training schedule is refused when the steps are known', () => {
    const choice = chooseScheduler({ _class_name: 'DDIMScheduler', ...SD15, steps_offset: 30 });
    expect(choice.create({ numInferenceSteps: 20 }).timesteps[0]).toBe(980);
    expect(() => choice.create({ numInferenceSteps: 50 })).toThrow('would visit timestep 1010');
  });

  it('of PNDM with its Runge-Kutta start is refused for fewer steps than that has', () => {
    expect(() => chooseScheduler({ _class_name: 'PNDMScheduler', ...SD15 }).create({ numInferenceSteps: 3 })).toThrow(
      'at least 4 steps',
    );
  });

  it('with dynamic shifting takes the shift from the size of the image', () => {
    const choice = chooseScheduler({ _class_name: 'FlowMatchEulerDiscreteScheduler', use_dynamic_shifting: true });
    const [small, large] = [256, 4096].map(
      (imageSequenceLength) => choice.create({ numInferenceSteps: 4, imageSequenceLength }).timesteps,
    );
    expect(small).toEqual(choice.create({ numInferenceSteps: 4, mu: 0.5 }).timesteps);
    expect(large).toEqual(choice.create({ numInferenceSteps: 4, mu: 1.15 }).timesteps);
    expect(() => choice.create({ numInferenceSteps: 4 })).toThrow('no size was given');
  });

  it.each(['LCMScheduler', 'TCDScheduler'])(
    'of %s is refused for more steps than it was distilled for',
    (className) => {
      expect(() => chooseScheduler({ _class_name: className }).create({ numInferenceSteps: 51 })).toThrow(
        'at most 50 steps',
      );
    },
  );
});
