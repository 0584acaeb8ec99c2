/** Which of the training timesteps an image visits (arXiv 2305.08891, table 2). */
import { z } from 'zod';
import { requestError } from '../errors.js';
import { linspace, roundHalfEven } from './float32.js';

export const timestepSpacing = z.enum(['linspace', 'leading', 'trailing']);
export type TimestepSpacing = z.infer<typeof timestepSpacing>;

export interface SpacingRequest {
  readonly spacing: TimestepSpacing;
  readonly numTrainTimesteps: number;
  readonly numInferenceSteps: number;
  /** Added to `leading` timesteps; Stable Diffusion uses 1. */
  readonly stepsOffset: number;
}

/** `linspace` from the last training timestep down to 0, not rounded. */
export const linspaceTimesteps = (numTrainTimesteps: number, numInferenceSteps: number): number[] =>
  linspace(0, numTrainTimesteps - 1, numInferenceSteps).reverse();

/** Multiples of the whole-numbered stride, from above, plus the offset. */
export const leadingTimesteps = (stride: number, count: number, stepsOffset: number): number[] =>
  Array.from({ length: count }, (_, index) => (count - 1 - index) * stride + stepsOffset);

/**
 * From `last` down in fractional strides that end above 0, rounded, minus 1. The number of values is that of NumPy's
 * `arange`, which may differ from the number asked for where the stride is not exact in float64.
 */
export const trailingTimesteps = (last: number, stride: number): number[] =>
  Array.from({ length: Math.ceil(last / stride) }, (_, index) => roundHalfEven(last - index * stride) - 1);

/** Descending timesteps; whole numbers unless the spacing is `linspace`. */
export const spacedTimesteps = (request: SpacingRequest): number[] => {
  const { numTrainTimesteps, numInferenceSteps, stepsOffset } = request;
  switch (request.spacing) {
    case 'linspace':
      return linspaceTimesteps(numTrainTimesteps, numInferenceSteps);
    case 'leading':
      return leadingTimesteps(Math.floor(numTrainTimesteps / numInferenceSteps), numInferenceSteps, stepsOffset);
    case 'trailing':
      return trailingTimesteps(numTrainTimesteps, numTrainTimesteps / numInferenceSteps);
    default:
      return request.spacing satisfies never;
  }
};

/** Refuses timesteps that the training schedule does not have: an offset or a number of steps that goes beyond its ends. */
export const checkTimesteps = (timesteps: readonly number[], numTrainTimesteps: number): readonly number[] => {
  const outside = timesteps.find((timestep) => !(timestep >= 0 && timestep < numTrainTimesteps));
  if (outside === undefined) return timesteps;
  throw requestError(
    `${timesteps.length} steps would visit timestep ${outside}, and this model has timesteps 0 to ${numTrainTimesteps - 1}. Ask for fewer steps, or correct steps_offset in scheduler_config.json.`,
  );
};
