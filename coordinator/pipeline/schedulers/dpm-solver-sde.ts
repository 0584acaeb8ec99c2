/**
 * DPM-Solver++ of order 2 on the reverse SDE, as k-diffusion has it (`sample_dpmpp_sde`); `DPMSolverSDEScheduler` in diffusers. The
 * noise is a Brownian path over sigmas: a step's two halves have increments of their own, and the whole step has their sum.
 * diffusers draws the path from a tree that torchsde grows from a seed of its own; here it comes from the image's seed, like any other
 * noise, so that the update is the same and the path is another one of the same distribution.
 */
import { z } from 'zod';
import { at, f32, zipWith } from './float32.js';
import { latentBetaKeys } from './noise-schedule.js';
import { denoisedInSigmas, noiseOrVelocity } from './predictions.js';
import type { NoiseSource, ScheduleRequest, Scheduler } from './scheduler.js';
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

export const dpmSolverSdeConfig = z.object({
  ...sigmaLevelKeys,
  ...latentBetaKeys,
  prediction_type: noiseOrVelocity,
  noise_sampler_seed: z.number().int().nullable().default(null),
});
export type DpmSolverSdeConfig = z.infer<typeof dpmSolverSdeConfig>;

interface First {
  readonly sample: Float32Array;
  readonly noise: Float32Array;
}

/** Middle of a step in the logarithm of its sigmas. */
const middleOf = (from: number, to: number): number => {
  const time = f32(-f32(Math.log(from)));
  return f32(Math.exp(-f32(time + f32(f32(f32(-f32(Math.log(to))) - time) * 0.5))));
};

/** Unit noise over the whole of a step, of which the first half had `first` and the second half has `second`. */
const joined = (first: Float32Array, second: Float32Array, firstShare: number): Float32Array =>
  zipWith(first, second, (x, y) => Math.sqrt(firstShare) * x + Math.sqrt(1 - firstShare) * y);

/** From `sample` at `from` to `to`, with the denoised sample held fixed. */
const stepTo = (
  to: number,
  from: number,
  sample: Float32Array,
  original: Float32Array,
  noise: Float32Array,
): Float32Array => {
  const ancestral = ancestralStep(from, to);
  const up = Math.min(to, ancestral.up);
  const down = f32(Math.sqrt(Math.max(0, f32(f32(to * to) - f32(up * up)))));
  const ratio = f32(down / from);
  // expm1(log(down) - log(from)) by its logarithms, as torch has it, and not as `ratio - 1`.
  const gain = f32(Math.expm1(f32(f32(Math.log(down)) - f32(Math.log(from)))));
  const stepped = zipWith(sample, original, (x, x0) => f32(ratio * x) - f32(gain * x0));
  return withNoise(stepped, noise, up);
};

/** Makes the schedule of one image. */
export const createDpmSolverSde = (config: DpmSolverSdeConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const spaced = sigmaLevels(config, numInferenceSteps);
  const sigmas = Float32Array.from([...spaced.sigmas, 0]);
  const memory = createMemory<First>();
  const middle = (step: number): number => middleOf(at(sigmas, step), at(sigmas, step + 1));
  const sigmaOf = (call: number): number => {
    const { step, second } = stageOf(call);
    return second ? middle(step) : at(sigmas, step);
  };
  const advance = (step: number, original: Float32Array, sample: Float32Array, draw: NoiseSource): Float32Array => {
    const noise = draw();
    memory.keep(step, { sample, noise });
    return stepTo(middle(step), at(sigmas, step), sample, original, noise);
  };
  const finish = (step: number, original: Float32Array, draw: NoiseSource): Float32Array => {
    const [from, to] = [at(sigmas, step), at(sigmas, step + 1)];
    const first = memory.of(step);
    const noise = joined(first.noise, draw(), (from - middle(step)) / (from - to));
    return stepTo(to, from, first.sample, original, noise);
  };
  return {
    timesteps: interleaved(spaced.timesteps, (step) => spaced.timestepOf(middle(step))),
    initNoiseSigma: startSigma(sigmas, config.timestep_spacing),
    scaleModelInput: (sample, call) => atUnitVariance(sample, sigmaOf(call)),
    step(modelOutput, call, sample, noise) {
      const { step, second } = stageOf(call);
      const sigma = sigmaOf(call);
      const original = denoisedInSigmas(config.prediction_type, modelOutput, sample, sigma);
      if (at(sigmas, step + 1) === 0) return along(sample, slopeOf(sample, original, sigma), f32(-sigma));
      return second ? finish(step, original, noise) : advance(step, original, sample, noise);
    },
  };
};
