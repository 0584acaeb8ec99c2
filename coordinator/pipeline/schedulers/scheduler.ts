/**
 * What the denoising loop needs of a noise schedule. A scheduler is made for one image: it knows its number of steps
 * from the start, and steps are addressed by index, so that a step whose network call failed can simply be run again.
 */

/** Draws fresh standard normal noise in the shape of the latents; called only by steps that need it. */
export type NoiseSource = () => Float32Array;

export interface Scheduler {
  /** The timestep values that the network is given, one a step, in the order of the steps. */
  readonly timesteps: readonly number[];
  /** Standard deviation of the first latents: unit noise is multiplied by it. */
  readonly initNoiseSigma: number;
  /** The latents as the network expects them at a step. Returns `sample` itself where nothing is scaled. */
  scaleModelInput(sample: Float32Array, index: number): Float32Array;
  /**
   * The latents after a step.
   * @param modelOutput the network's prediction, guidance applied; same length as `sample`
   * @param index of the step, 0-based; DPM++ needs the previous index to have been stepped before
   */
  step(modelOutput: Float32Array, index: number, sample: Float32Array, noise: NoiseSource): Float32Array;
}

/** How a scheduler is made for one image. */
export interface ScheduleRequest {
  readonly numInferenceSteps: number;
  /** Number of image tokens that the network attends to; flow matching with `use_dynamic_shifting` needs it or `mu`. */
  readonly imageSequenceLength?: number;
  /** The shift itself, where a pipeline has a formula of its own for it. */
  readonly mu?: number;
  /** Unshifted noise levels, one a step, where a pipeline spaces them itself (FLUX does); only flow matching reads them. */
  readonly sigmas?: readonly number[];
}
