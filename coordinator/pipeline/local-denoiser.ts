/**
 * A denoiser on one device: the whole model in one session on a thread of this process. What a cluster's image is compared
 * with, and what runs a model that is not worth splitting.
 */
import { type Denoiser, oneAfterAnother } from '../denoiser.js';
import { fixedSpecs, outputSpec, symbolicSizes } from './denoiser-sizes.js';
import type { DenoiserSize } from './latent-layout.js';
import { createSessionThread, type SessionThreadOptions } from './session-thread.js';

export interface LocalDenoiserOptions extends SessionThreadOptions {
  /** Path of the ONNX file. */
  readonly model: string;
  /** Sizes for its symbolic dims. */
  readonly size: DenoiserSize;
}

export interface LocalDenoiser extends Denoiser {
  close(): Promise<void>;
}

/**
 * Loads a whole denoiser.
 * @throws TandemError `SESSION_FAILED` when ONNX Runtime cannot load it, `MODEL_INPUTS` when a dim's size is not known
 */
export const openLocalDenoiser = async (options: LocalDenoiserOptions): Promise<LocalDenoiser> => {
  const thread = createSessionThread(options);
  try {
    const session = await thread.open(options.model);
    const sizes = symbolicSizes(session.inputs, options.size);
    return {
      inputs: fixedSpecs(session.inputs, sizes),
      outputs: session.outputs.map((output) => outputSpec(output, options.size)),
      step: (inputs) => session.run(inputs),
      stepEach: oneAfterAnother((inputs) => session.run(inputs)),
      close: () => thread.close(),
    };
  } catch (error) {
    await thread.close();
    throw error;
  }
};
