/**
 * What the denoising loop needs of a noise schedule. A scheduler is made for one image: it knows its calls of the network
 * from the start, and they are addressed by index, so that one that failed can simply be made again. Most schedulers make one
 * call a step; Heun and its kin make two, and PNDM makes more while it starts.
 */

/** Draws fresh standard normal noise in the shape of the latents; called only by steps that need it. */
export type NoiseSource = () => Float32Array;

export interface Scheduler {
  /** The timestep values that the network is given, one a call, in the order of the calls; they may repeat. */
  readonly timesteps: readonly number[];
  /** Standard deviation of the first latents: unit noise is multiplied by it. */
  readonly initNoiseSigma: number;
  /** The latents as the network expects them at a call. Returns `sample` itself where nothing is scaled. */
  scaleModelInput(sample: Float32Array, index: number): Float32Array;
  /**
   * The latents after a call.
   * @param modelOutput the network's prediction, guidance applied; same length as `sample`
   * @param index of the call, 0-based; most schedulers look back, so the calls before it must have been made
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
