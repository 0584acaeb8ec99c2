/** Outside of the compute thread: a pool of one thread, typed by `compute-protocol.ts`. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { TandemError } from '../common/errors.js';
import { providerUnavailable } from '../common/onnxruntime.js';
import type { Answer, FinishTask, OpenTask, RunResult, RunTask, Tensors } from './compute-protocol.js';
import type { Problem } from './protocol.js';

/** More than two micro-batches hide no more of the exchange. */
const MICRO_BATCHES_AHEAD = 2;

/** A segment's place in messages. */
const fail = (what: string, problem: Problem): TandemError =>
  new TandemError(problem.code, `${what}: ${problem.message.trim()}`, { problems: problem.problems });

/** The thread in which sessions live. */
export class ComputePool {
  readonly #pool = new Piscina({
    filename: fileURLToPath(new URL('./compute.js', import.meta.url)),
    minThreads: 1,
    maxThreads: 1,
    // Where several micro-batches are under way, the next segment is with the thread before it has ended the last.
    concurrentTasksPerWorker: MICRO_BATCHES_AHEAD,
    idleTimeout: Number.POSITIVE_INFINITY,
  });
  #opened = 0;

  /** @throws TandemError `SEGMENT_OPEN`, `SEGMENT_MISMATCH`, `PROVIDER_UNAVAILABLE` */
  async open(task: OpenTask): Promise<void> {
    const answer = await this.#ask<undefined>('open', task);
    if (answer.kind === 'done') {
      this.#opened += 1;
      return;
    }
    const { problem } = answer;
    // Where a device's provider cannot open even the first graph, the device itself is missing.
    const isDevice = task.provider !== 'cpu' && this.#opened === 0 && problem.code === 'SEGMENT_OPEN';
    if (isDevice) throw providerUnavailable(task.provider, problem.message);
    throw fail(`Cannot open "${task.segment.file}"`, problem);
  }

  /** @throws TandemError `SEGMENT_RUN`, `SEGMENT_INPUT` */
  async run(task: RunTask): Promise<RunResult> {
    const answer = await this.#ask<RunResult>('run', task);
    if (answer.kind === 'done') return answer.value;
    throw fail(`Segment ${task.segment} failed`, answer.problem);
  }

  /** @throws TandemError `SEGMENT_INPUT` */
  async finish(task: FinishTask): Promise<Tensors> {
    const answer = await this.#ask<Tensors>('finish', task);
    if (answer.kind === 'done') return answer.value;
    throw fail('The outputs are not there at the end of the step', answer.problem);
  }

  /** Drops all tensors. @throws TandemError */
  async forget(): Promise<void> {
    const answer = await this.#ask<undefined>('forget', {});
    if (answer.kind === 'failed') throw fail('The tensors of the last step could not be dropped', answer.problem);
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

  async #ask<T>(name: 'open' | 'run' | 'finish' | 'forget', task: object): Promise<Answer<T>> {
    return (await this.#pool.run(task, { name })) as Answer<T>;
  }
}
