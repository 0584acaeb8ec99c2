/** Outside of the compute thread: a pool of one thread, typed by `compute-protocol.ts`. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { type Answer, type Problem, unwrap } from '../common/answer.js';
import { toErrorCode } from '../common/error-codes.js';
import { TandemError } from '../common/errors.js';
import { providerUnavailable } from '../common/onnxruntime.js';
import type { ConnectTask, OpenTask, RehearseTask, StepDone, StepTask } from './compute-protocol.js';

/** A problem in its own words, after what was being done. */
const whileDoing =
  (doing: string) =>
  ({ code, message, problems }: Problem): TandemError =>
    new TandemError(toErrorCode(code), `${doing}: ${message.trim()}`, { problems });

/** The thread in which sessions live. */
export class ComputePool {
  readonly #pool = new Piscina({
    filename: fileURLToPath(new URL('./compute.js', import.meta.url)),
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
  });
  #opened = 0;

  /** @throws TandemError `SEGMENT_OPEN`, `SEGMENT_MISMATCH`, `PROVIDER_UNAVAILABLE` */
  async open(task: OpenTask): Promise<void> {
    const toError = (problem: Problem): TandemError => {
      // Where a device's provider cannot open even the first graph, the device itself is missing.
      const isDevice = task.provider !== 'cpu' && this.#opened === 0 && problem.code === 'SEGMENT_OPEN';
      if (isDevice) return providerUnavailable(task.provider, problem.message);
      return whileDoing(`Cannot open "${task.segment.file}"`)(problem);
    };
    unwrap(await this.#ask<undefined>('open', task), toError);
    this.#opened += 1;
  }

  /** @throws TandemError `EXCHANGE_CONNECT` */
  async connect(task: ConnectTask): Promise<void> {
    const transferList = task.link.kind === 'sockets' ? [task.link.port] : [];
    unwrap(
      await this.#ask<undefined>('connect', task, transferList),
      whileDoing('The compute thread cannot reach its peers'),
    );
  }

  /** @throws TandemError `SEGMENT_RUN`, `SEGMENT_INPUT`, `STEP_ABANDONED`, and of the exchange */
  async step(task: StepTask): Promise<StepDone> {
    return unwrap(await this.#ask<StepDone>('step', task));
  }

  /** @throws TandemError `SEGMENT_RUN` */
  async rehearse(task: RehearseTask): Promise<string | undefined> {
    return unwrap(await this.#ask<string | undefined>('rehearse', task));
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

  async #ask<T>(
    name: 'open' | 'connect' | 'step' | 'rehearse',
    task: object,
    transferList: MessagePort[] = [],
  ): Promise<Answer<T>> {
    return (await this.#pool.run(task, { name, transferList })) as Answer<T>;
  }
}
