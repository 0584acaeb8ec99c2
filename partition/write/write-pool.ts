/**
 * The outside of the writing threads: all ranks at once, as many threads as there are cores. A thread is never ended while ONNX
 * Runtime works in it, which would end the process (`Napi::Error`): when one rank fails, the others are told to stop and
 * waited for.
 */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { unwrap } from '../../common/answer.js';
import type { FileEntry } from './manifest.js';
import {
  DONE_BYTES,
  type RankPlace,
  type RankWork,
  SHARED_COUNTERS,
  STOP,
  type WriteResult,
  type WriteTask,
  workBytes,
} from './tasks.js';

const PROGRESS_INTERVAL_MS = 100;

export interface RankTask extends RankPlace {
  readonly work: RankWork;
}

export interface WriteOptions {
  /** Bytes of weights written, of all ranks together. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes the ranks' files, in threads that have ended when this returns or throws.
 * @returns each rank's entries for the manifest, the weights file first
 * @throws TandemError as `writeError` has it, PREPARE_FAILED; the signal's reason when it aborts
 */
export const writeRanks = async (
  ranks: readonly RankTask[],
  options: WriteOptions,
): Promise<readonly (readonly FileEntry[])[]> => {
  const pool = new Piscina<WriteTask, WriteResult>({
    filename: new URL('./write-thread.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: Math.min(ranks.length, availableParallelism()),
    concurrentTasksPerWorker: 1,
  });
  const shared = new BigInt64Array(new SharedArrayBuffer(SHARED_COUNTERS * BigInt64Array.BYTES_PER_ELEMENT));
  const stopReporting = report(shared, totalBytes(ranks), options.onProgress);
  const stop = (): void => void Atomics.store(shared, STOP, 1n);
  options.signal?.addEventListener('abort', stop, { once: true });
  if (options.signal?.aborted) stop();
  const write = async (rank: RankTask): Promise<readonly FileEntry[]> => {
    try {
      return unwrap(await pool.run({ ...rank, shared }));
    } catch (error) {
      stop();
      throw error;
    }
  };
  try {
    return await firstFailure(ranks.map(write));
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await pool.destroy();
    stopReporting();
  }
};

/** What all give, or what the first to fail threw, once none of them runs any more. */
const firstFailure = async <T>(running: readonly Promise<T>[]): Promise<readonly T[]> => {
  const all = Promise.all(running);
  await Promise.allSettled([all, ...running]);
  return all;
};

const totalBytes = (ranks: readonly RankTask[]): number => ranks.reduce((sum, { work }) => sum + workBytes(work), 0);

/** Threads only count, so that a slow listener cannot slow them down. */
const report = (
  shared: BigInt64Array,
  total: number,
  onProgress: WriteOptions['onProgress'] = () => {},
): (() => void) => {
  const tell = () => onProgress(Number(Atomics.load(shared, DONE_BYTES)), total);
  const timer = setInterval(tell, PROGRESS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    tell();
  };
};
