/** What the pipeline needs of a network that runs elsewhere: the seam between it and the running workers. */
import type { HostTensor, TensorSpec } from '../common/tensor.js';

/** A network, wherever it runs. */
export interface Network {
  /** Inputs as the ONNX model names them, with the fixed sizes that it was opened for. */
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /**
   * Runs the network once.
   * @param inputs every input by name
   * @param signal takes the call out of the line where it waits for others; its reason is thrown
   * @throws TandemError when a worker failed; the call can be repeated once the workers are back
   */
  step(inputs: Readonly<Record<string, HostTensor>>, signal?: AbortSignal): Promise<Record<string, HostTensor>>;
  /**
   * Runs the network once for each of these micro-batches, all under way at once: while the tensors of one travel between
   * workers, another computes.
   * @returns outputs in the same order
   * @throws as `step`; all are to be repeated
   */
  stepEach(
    microBatches: readonly Readonly<Record<string, HostTensor>>[],
    signal?: AbortSignal,
  ): Promise<readonly Record<string, HostTensor>[]>;
}

/** A network that predicts noise. */
export type Denoiser = Network;

type Step = Network['step'];

/** A network from what it declares and how it runs micro-batches. */
export const networkFrom = (
  { inputs, outputs }: Pick<Network, 'inputs' | 'outputs'>,
  stepEach: Network['stepEach'],
): Network => ({
  inputs,
  outputs,
  stepEach,
  step: async (feeds, signal) => ({ ...(await stepEach([feeds], signal))[0] }),
});

/** `stepEach` of a network that runs once at a time. */
export const oneAfterAnother =
  (step: Step): Network['stepEach'] =>
  async (microBatches) => {
    const outputs: Awaited<ReturnType<Step>>[] = [];
    for (const inputs of microBatches) outputs.push(await step(inputs));
    return outputs;
  };
