/** The middle of an image: latents through the network call by call, which are steps for most schedulers. */
import type { Conditioning } from './conditioning.js';
import type { DenoiserBinding } from './denoiser-binding.js';
import { modelInputsError } from './errors.js';
import { applyGuidance } from './guidance.js';
import { checkAborted, type ImageRequest } from './image-request.js';
import type { RandomStream } from './random.js';
import type { Scheduler } from './schedulers/scheduler.js';

/** A result and how long it took, in ms. */
export const timed = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
  const start = performance.now();
  return [await work(), performance.now() - start];
};

/** Warnings about a schedule that the denoiser cannot follow to the letter. */
export const loopWarnings = (scheduler: Scheduler, binding: DenoiserBinding, conditioning: Conditioning): string[] => [
  ...(binding.wholeTimesteps && scheduler.timesteps.some((timestep) => !Number.isInteger(timestep))
    ? [
        'The scheduler makes fractional timesteps, but the model takes whole ones: they were rounded. Use another scheduler, or one with timestep_spacing "leading" or "trailing", to avoid it; schedulers that look at the middle of a step always make them.',
      ]
    : []),
  ...(binding.batch > conditioning.prompts.length
    ? [
        `The denoiser was opened for a batch of ${binding.batch}, of which this image uses ${conditioning.prompts.length}: it could run in half the time with a batch of 1.`,
      ]
    : []),
];

const predict = async (
  binding: DenoiserBinding,
  sample: Float32Array,
  timestep: number,
  { prompts, shared, guidanceWeight }: Conditioning,
  signal: AbortSignal | undefined,
): Promise<Float32Array> => {
  const [first, second] = await binding.predict({ sample, timestep, prompts, shared, signal });
  if (first === undefined) throw modelInputsError('denoiser', ['It returned no prediction.']);
  return guidanceWeight === undefined || second === undefined ? first : applyGuidance(first, second, guidanceWeight);
};

export interface LoopResult {
  /** `[channels * height * width]`. */
  readonly latents: Float32Array;
  /** ms, one a call. */
  readonly stepTimes: readonly number[];
}

/**
 * The denoising loop. A call that fails leaves the latents of the one before; nothing is retried here.
 * @throws TandemError `REQUEST_ABORTED`, or whatever the denoiser throws
 */
export const denoise = async (
  request: ImageRequest,
  binding: DenoiserBinding,
  scheduler: Scheduler,
  conditioning: Conditioning,
  random: RandomStream,
): Promise<LoopResult> => {
  const [channels, height, width] = binding.latentShape;
  const count = channels * height * width;
  const unit = request.initialLatents ?? random.normal(count);
  let latents: Float32Array = unit.map((value) => value * scheduler.initNoiseSigma);
  const stepTimes: number[] = [];
  for (const [index, timestep] of scheduler.timesteps.entries()) {
    const phase = `step ${index + 1} of ${scheduler.timesteps.length}`;
    checkAborted(request.signal, phase);
    const sample = scheduler.scaleModelInput(latents, index);
    const work = timed(() => predict(binding, sample, timestep, conditioning, request.signal));
    const [prediction, step_ms] = await work.catch((error: unknown) => {
      checkAborted(request.signal, phase);
      throw error;
    });
    latents = scheduler.step(prediction, index, latents, () => random.normal(count));
    stepTimes.push(step_ms);
    request.onStep?.({ step: index + 1, steps: scheduler.timesteps.length, timestep, step_ms, latents });
  }
  return { latents, stepTimes };
};
