/** Outside of the compute thread: a pool of one thread, typed by `compute-protocol.ts`. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { TandemError } from '../partition/errors.js';
import { providerUnavailable } from '../partition/onnxruntime.js';
import {
  buffersOf,
  type FinishTask,
  type OpenTask,
  type RunResult,
  type RunTask,
  type Tensors,
} from './compute-protocol.js';

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message.trim() : String(error));

// An error loses its class on the way between threads; its own `code` survives.
const ownCode = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && error.name === 'TandemError' ? String(error.code) : undefined;

const failure = (code: string, what: string, error: unknown): TandemError =>
  new TandemError(ownCode(error) ?? code, `${what}: ${reasonOf(error)}`, { cause: error });

/** The thread in which sessions live. Buffers given to it are no longer usable here. */
export class ComputePool {
  readonly #pool = new Piscina({
    filename: fileURLToPath(new URL('./compute.js', import.meta.url)),
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
  });

  /** @throws TandemError `SEGMENT_OPEN`, `SEGMENT_MISMATCH`, `PROVIDER_UNAVAILABLE` */
  async open(task: OpenTask): Promise<void> {
    try {
      await this.#pool.run(task, { name: 'open' });
    } catch (error) {
      if (ownCode(error) === undefined && task.provider !== 'cpu')
        throw providerUnavailable(task.provider, reasonOf(error), error);
      throw failure('SEGMENT_OPEN', `Cannot open "${task.path}"`, error);
    }
  }

  /** @throws TandemError `SEGMENT_RUN`, `SEGMENT_INPUT` */
  async run(task: RunTask): Promise<RunResult> {
    try {
      return (await this.#pool.run(task, { name: 'run', transferList: buffersOf(task.arrived) })) as RunResult;
    } catch (error) {
      throw failure('SEGMENT_RUN', `Segment ${task.segment} failed`, error);
    }
  }

  /** @throws TandemError `SEGMENT_INPUT` */
  async finish(task: FinishTask): Promise<Tensors> {
    try {
      return (await this.#pool.run(task, { name: 'finish', transferList: buffersOf(task.arrived) })) as Tensors;
    } catch (error) {
      throw failure('SEGMENT_RUN', 'The outputs are not there at the end of the step', error);
    }
  }

  /**
   * Closes sessions and thread.
   * @returns false if the thread was still busy after `timeoutMs`: a running segment cannot be interrupted
   */
  async close(timeoutMs: number): Promise<boolean> {
    const closing = this.#pool
      .run(undefined, { name: 'dispose' })
      .then(() => this.#pool.destroy())
      .then(
        () => true,
        () => false,
      );
    return Promise.race([closing, delay(timeoutMs, false, { ref: false })]);
  }
}
