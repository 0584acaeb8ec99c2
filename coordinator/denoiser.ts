/** What the pipeline needs of a denoiser: the seam between the denoising loop and the running workers. */
import type { HostTensor, TensorSpec } from '../partition/tensor.js';

/** A model that predicts noise, wherever it runs. */
export interface Denoiser {
  /** Inputs as the ONNX model names them, with the fixed sizes that it was opened for. */
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /**
   * Runs the network once.
   * @param inputs every input by name
   * @throws TandemError when a worker failed; the call can be repeated once the workers are back
   */
  step(inputs: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>>;
}
