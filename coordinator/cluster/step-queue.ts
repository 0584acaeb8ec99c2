/** The steps that somebody waits for. The workers take one at a time, whichever network's: first come, first served. */
import { TandemError } from '../../common/errors.js';
import type { HostTensor } from '../../common/tensor.js';
import { tensorProblems } from '../../shard-worker/inputs.js';
import type { ClusterNetwork, StepOptions, StepResult } from './types.js';

export type Inputs = Readonly<Record<string, HostTensor>>;

export interface PendingStep {
  readonly microBatches: readonly Inputs[];
  readonly network: ClusterNetwork;
  readonly options: StepOptions;
  readonly resolve: (result: StepResult) => void;
  readonly reject: (error: unknown) => void;
}

type Asked = Omit<PendingStep, 'resolve' | 'reject'>;

const checkInputs = ({ microBatches, network: { profile } }: Asked): void => {
  const problems =
    microBatches.length === 0
      ? ['there are none']
      : microBatches.flatMap((inputs) => tensorProblems(profile.inputs, inputs));
  if (problems.length === 0) return;
  throw new TandemError('STEP_INPUTS', `Step inputs do not fit the model: ${problems.join('; ')}.`, { problems });
};

export class StepQueue {
  /** The first one is under way, or will be as soon as the workers are there. */
  readonly #steps: PendingStep[] = [];

  get first(): PendingStep | undefined {
    return this.#steps[0];
  }

  /**
   * @param onFirst called where it has nothing to wait for
   * @throws TandemError `STEP_INPUTS`; the signal's reason where it fires while the step waits for others
   */
  add(asked: Asked, onFirst: () => void): Promise<StepResult> {
    const { signal } = asked.options;
    signal?.throwIfAborted();
    checkInputs(asked);
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        const place = this.#steps.indexOf(step);
        if (place > 0) this.#steps.splice(place, 1);
        if (place !== 0) step.reject(signal?.reason);
      };
      const settled = (): void => signal?.removeEventListener('abort', leave);
      const step: PendingStep = {
        ...asked,
        resolve: (result) => {
          settled();
          resolve(result);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#steps.push(step);
      if (this.#steps.length === 1) onFirst();
    });
  }

  /** Takes the first one out. */
  shift(): PendingStep | undefined {
    return this.#steps.shift();
  }

  rejectAll(error: unknown): void {
    for (const step of this.#steps.splice(0)) step.reject(error);
  }
}
