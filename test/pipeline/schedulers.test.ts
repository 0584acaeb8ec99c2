import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { chooseScheduler, SCHEDULER_NAMES } from '#tandem/coordinator/pipeline/schedulers/registry.js';
import type { ScheduleRequest } from '#tandem/coordinator/pipeline/schedulers/scheduler.js';
import { GOLDENS, relativeError } from './helpers.js';

const numbers = z.array(z.number());

const runSchema = z.object({
  num_inference_steps: z.number(),
  arguments: z.object({ mu: z.number().optional(), sigmas: numbers.optional() }),
  timesteps: numbers,
  init_noise_sigma: z.number(),
  samples: z.array(numbers),
  scaled_inputs: z.array(numbers).optional(),
});
type Run = z.infer<typeof runSchema>;

const { cases } = z
  .object({
    cases: z.array(
      z.object({ name: z.string(), config: z.looseObject({ _class_name: z.string() }), runs: z.array(runSchema) }),
    ),
  })
  .parse(JSON.parse(readFileSync(join(GOLDENS, 'schedulers.json'), 'utf8')));

const ELEMENTS = 8;
const vector = (value: (index: number) => number): Float32Array =>
  Float32Array.from({ length: ELEMENTS }, (_, index) => value(index));

// The formulas that the goldens were made with; schedulers.json states them.
const start = (sigma: number): Float32Array => vector((i) => Math.fround(Math.cos(0.9 * i)) * sigma);
const modelOutput = (step: number): Float32Array => vector((i) => Math.sin(0.7 * i + 0.3 * step + 0.1));
const noise = (step: number): Float32Array => vector((i) => Math.cos(1.3 * i + 0.5 * step + 0.2));

const requestOf = (run: Run): ScheduleRequest => ({
  numInferenceSteps: run.num_inference_steps,
  ...(run.arguments.mu === undefined ? {} : { mu: run.arguments.mu }),
  ...(run.arguments.sigmas === undefined ? {} : { sigmas: run.arguments.sigmas }),
});

describe.each(cases)('$name', ({ config, runs }) => {
  it.each(runs)('gives the timesteps, scales and steps of diffusers in $num_inference_steps steps', (run) => {
    const scheduler = chooseScheduler(config).create(requestOf(run));
    expect(relativeError(scheduler.timesteps, run.timesteps)).toBeLessThan(1e-6);
    expect(scheduler.initNoiseSigma / run.init_noise_sigma).toBeCloseTo(1, 6);

    // Each step starts from the golden's latents, so that rounding does not add up over the steps.
    run.samples.forEach((expected, index) => {
      const sample = index === 0 ? start(run.init_noise_sigma) : Float32Array.from(run.samples[index - 1] ?? []);
      const scaled = scheduler.scaleModelInput(sample, index);
      expect(relativeError(scaled, run.scaled_inputs?.[index] ?? [...sample])).toBeLessThan(1e-5);
      const stepped = scheduler.step(modelOutput(index), index, sample, () => noise(index));
      expect(relativeError(stepped, expected)).toBeLessThan(1e-5);
    });
  });
});

const SD15 = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear', steps_offset: 1 };

describe('a scheduler config', () => {
  it('of a class that is not supported is refused with the classes that are', () => {
    expect(() => chooseScheduler({ _class_name: 'PNDMScheduler', ...SD15 })).toThrow(
      /PNDMScheduler.*DDIMScheduler \(ddim\).*FlowMatchEulerDiscreteScheduler \(flow-match-euler\).*--scheduler/,
    );
  });

  it('runs with any scheduler of its family, with its own betas', () => {
    for (const name of SCHEDULER_NAMES.filter((name) => name !== 'flow-match-euler')) {
      const scheduler = chooseScheduler({ _class_name: 'PNDMScheduler', ...SD15 }, name).create({
        numInferenceSteps: 5,
      });
      expect(scheduler.timesteps).toHaveLength(5);
    }
  });

  it('of a diffusion model is not run as a flow, nor the other way round', () => {
    expect(() => chooseScheduler({ _class_name: 'DDIMScheduler', ...SD15 }, 'flow-match-euler')).toThrow(
      'cannot be run by a flow scheduler',
    );
    expect(() => chooseScheduler({ _class_name: 'FlowMatchEulerDiscreteScheduler' }, 'euler')).toThrow(
      'cannot be run by a diffusion scheduler',
    );
  });

  it('with options that are not supported is refused with all of them', () => {
    const config = {
      _class_name: 'DPMSolverMultistepScheduler',
      algorithm_type: 'sde-dpmsolver++',
      use_lu_lambdas: true,
      beta_schedule: 'exotic',
    };
    expect(() => chooseScheduler(config)).toThrow(/beta_schedule .*algorithm_type .*use_lu_lambdas is not supported/);
  });

  it('with two spacings of noise levels at once is refused', () => {
    const config = { _class_name: 'EulerDiscreteScheduler', use_karras_sigmas: true, use_exponential_sigmas: true };
    expect(() => chooseScheduler(config)).toThrow('both on');
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

  it('of an LCM is refused for more steps than it was distilled for', () => {
    expect(() => chooseScheduler({ _class_name: 'LCMScheduler' }).create({ numInferenceSteps: 51 })).toThrow(
      'at most 50 steps',
    );
  });
});
