/**
 * DPM-Solver-2 as k-diffusion has it (`sample_dpm_2`, inspired by arXiv 2206.00364, algorithm 2): a step is taken along the slope in
 * its logarithmic middle. `KDPM2DiscreteScheduler` in diffusers, and `KDPM2AncestralDiscreteScheduler` with ancestral noise.
 */
import { z } from 'zod';
import { at, f32, roundHalfEven } from './float32.js';
import { latentBetaKeys } from './noise-schedule.js';
import { denoisedInSigmas, noiseOrVelocity } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import {
  along,
  ancestralStep,
  atUnitVariance,
  sigmaLevelKeys,
  sigmaLevels,
  slopeOf,
  startSigma,
  withNoise,
} from './sigma-levels.js';
import { createMemory, interleaved, stageOf } from './two-stage.js';

export const kdpm2Config = z.object({ ...sigmaLevelKeys, ...latentBetaKeys, prediction_type: noiseOrVelocity });
export type Kdpm2Config = z.infer<typeof kdpm2Config>;

/** Where a step starts, ends before its noise, and has its middle; `up` is the strength of its noise. */
interface Leg {
  readonly from: number;
  readonly middle: number;
  readonly down: number;
  readonly up: number;
}

const logMiddle = (from: number, to: number): number =>
  f32(Math.exp(f32(f32(Math.log(from)) + f32(f32(f32(Math.log(to)) - f32(Math.log(from))) * 0.5))));

const legsOf = (sigmas: Float32Array, ancestral: boolean): readonly Leg[] =>
  [...sigmas.subarray(0, -1)].map((from, step) => {
    const to = at(sigmas, step + 1);
    const { down, up } = ancestral ? ancestralStep(from, to) : { down: to, up: 0 };
    return { from, middle: to === 0 ? 0 : logMiddle(from, down), down, up };
  });

const createSolver = (config: Kdpm2Config, count: number, ancestral: boolean): Scheduler => {
  const spaced = sigmaLevels(config, count);
  const sigmas = Float32Array.from([...spaced.sigmas, 0]);
  const legs = legsOf(sigmas, ancestral);
  const legOf = (step: number): Leg => {
    const leg = legs[step];
    if (leg === undefined) throw new RangeError(`Step ${step} is outside a schedule of ${legs.length} steps.`);
    return leg;
  };
  const own = config.use_karras_sigmas ? spaced.timesteps.map(roundHalfEven) : spaced.timesteps;
  const samples = createMemory<Float32Array>();
  const sigmaOf = (call: number): number => {
    const { step, second } = stageOf(call);
    return second ? legOf(step).middle : legOf(step).from;
  };
  return {
    timesteps: interleaved(own, (step) => spaced.timestepOf(legOf(step).middle)),
    initNoiseSigma: startSigma(sigmas, config.timestep_spacing),
    scaleModelInput: (sample, call) => atUnitVariance(sample, sigmaOf(call)),
    step(modelOutput, call, sample, noise) {
      const { step, second } = stageOf(call);
      const { from, middle, down, up } = legOf(step);
      const sigma = sigmaOf(call);
      const slope = slopeOf(sample, denoisedInSigmas(config.prediction_type, modelOutput, sample, sigma), sigma);
      if (!second) return along(samples.keep(step, sample), slope, f32(middle - from));
      const stepped = along(samples.of(step), slope, f32(down - from));
      return ancestral ? withNoise(stepped, noise(), up) : stepped;
    },
  };
};

/** Makes the schedule of one image. */
export const createKdpm2 = (config: Kdpm2Config, { numInferenceSteps }: ScheduleRequest): Scheduler =>
  createSolver(config, numInferenceSteps, false);

/** Makes the schedule of one image, with ancestral noise. */
export const createKdpm2Ancestral = (config: Kdpm2Config, { numInferenceSteps }: ScheduleRequest): Scheduler =>
  createSolver(config, numInferenceSteps, true);
