/** What is asked of the pipeline for one image, and what it gives back. */
import { abortedError } from './errors.js';
import type { RgbImage } from './vae-decoder.js';

export interface StepProgress {
  /** Calls of the denoiser done so far, 1-based: as many as steps, but for schedulers that make more (`Pipeline.modelCalls`). */
  readonly step: number;
  readonly steps: number;
  readonly timestep: number;
  readonly step_ms: number;
  /** `[channels * height * width]`, as this step left them; the loop goes on from them, so they are not to be written to. */
  readonly latents: Float32Array;
}

export interface ImageRequest {
  readonly prompt: string;
  /** What the image should not show; empty where absent. Has no effect without guidance. */
  readonly negativePrompt?: string;
  /** The same seed gives the same image, and the one that diffusers gives for it on the CPU. */
  readonly seed: number;
  readonly numInferenceSteps: number;
  /** Above 1, the prompt is followed more closely at the price of a second pass. */
  readonly guidanceScale: number;
  /** Pixels; the size that the denoiser was opened for where absent. */
  readonly width?: number;
  readonly height?: number;
  /** Standard normal `[channels, height, width]` to start from; drawn from the seed where absent. */
  readonly initialLatents?: Float32Array;
  readonly onStep?: (progress: StepProgress) => void;
  /** Ends the image after the step that runs. */
  readonly signal?: AbortSignal;
}

/** Times of one image, in ms. */
export interface Timings {
  readonly text_encode_ms: number;
  readonly denoise_ms: number;
  /** One a call of the denoiser. */
  readonly step_ms: readonly number[];
  readonly vae_decode_ms: number;
}

export interface GeneratedImage {
  /** `[channels, height, width]`, as the last step left them. */
  readonly latents: { readonly data: Float32Array; readonly shape: readonly [number, number, number] };
  readonly image: RgbImage;
  readonly timings: Timings;
  /** What was done differently from what was asked, in sentences for the user. */
  readonly warnings: readonly string[];
}

/** @throws TandemError `REQUEST_ABORTED` once the signal has fired */
export const checkAborted = (signal: AbortSignal | undefined, phase: string): void => {
  if (signal?.aborted) throw abortedError(phase, signal.reason);
};
