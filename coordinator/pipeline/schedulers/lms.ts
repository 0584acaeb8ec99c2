/**
 * Linear multistep (Adams-Bashforth) of order 4 on the probability-flow ODE in sigmas (k-diffusion's `sample_lms`);
 * `LMSDiscreteScheduler` in diffusers.
 */
import { z } from 'zod';
import { at, type Weighted, weightedSum, zipWith } from './float32.js';
import { denoisedInSigmas, predictionType } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { atUnitVariance, sigmaLevelKeys, sigmaLevels, slopeOf, startSigma } from './sigma-levels.js';
import { createMemory } from './two-stage.js';

export const lmsConfig = z.object({ ...sigmaLevelKeys, prediction_type: predictionType });
export type LmsConfig = z.infer<typeof lmsConfig>;

const ORDER = 4;

/** Gauss and Legendre's two points, which integrate the cubic polynomials of order 4 exactly. */
const GAUSS_POINTS = [-1 / Math.sqrt(3), 1 / Math.sqrt(3)] as const;

/** Weight of the slope `back` steps ago: the integral over the step of the polynomial that is 1 at its level and 0 at the others'. */
const weightOf = (sigmas: Float32Array, index: number, order: number, back: number): number => {
  const others = Array.from({ length: order }, (_, other) => other).filter((other) => other !== back);
  const basis = (sigma: number): number =>
    others.reduce((product, other) => {
      const zero = at(sigmas, index - other);
      return (product * (sigma - zero)) / (at(sigmas, index - back) - zero);
    }, 1);
  const [start, end] = [at(sigmas, index), at(sigmas, index + 1)];
  const half = (end - start) / 2;
  return GAUSS_POINTS.reduce((sum, point) => sum + half * basis((start + end) / 2 + half * point), 0);
};

/** Makes the schedule of one image. */
export const createLms = (config: LmsConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const spaced = sigmaLevels(config, numInferenceSteps);
  const sigmas = Float32Array.from([...spaced.sigmas, 0]);
  const slopes = createMemory<Float32Array>();
  return {
    timesteps: spaced.timesteps,
    initNoiseSigma: startSigma(sigmas, config.timestep_spacing),
    scaleModelInput: (sample, index) => atUnitVariance(sample, at(sigmas, index)),
    step(modelOutput, index, sample) {
      const sigma = at(sigmas, index);
      const original = denoisedInSigmas(config.prediction_type, modelOutput, sample, sigma);
      slopes.keep(index, slopeOf(sample, original, sigma));
      const order = Math.min(index + 1, ORDER);
      const terms = Array.from(
        { length: order },
        (_, back): Weighted => [weightOf(sigmas, index, order, back), slopes.of(index - back)],
      );
      const change = weightedSum(terms, sample.length);
      return zipWith(sample, change, (x, difference) => x + difference);
    },
  };
};
