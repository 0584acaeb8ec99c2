/** The outside of the writing threads: all ranks at once, as many threads as there are cores. */
import { setMaxListeners } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Piscina } from 'piscina';
import { toErrorCode } from '../../common/error-codes.js';
import { TandemError } from '../../common/errors.js';
import { writeError } from './errors.js';
import type { FileEntry } from './manifest.js';
import { type RankPlace, type RankWork, type WriteResult, type WriteTask, workBytes } from './tasks.js';

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
  const progress = new BigInt64Array(new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT));
  const stopReporting = report(progress, totalBytes(ranks), options.onProgress);
  const failure = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failure.signal]) : failure.signal;
  // Every task listens to it, and Node takes more than ten listeners for a leak.
  setMaxListeners(0, signal);
  try {
    return await Promise.all(
      ranks.map(async (rank) =>
        unwrap(await pool.run({ ...rank, progress }, { signal }), join(rank.directory, rank.folder)),
      ),
    );
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    failure.abort();
    await pool.destroy();
    stopReporting();
  }
};

const unwrap = (result: WriteResult, place: string): readonly FileEntry[] => {
  switch (result.kind) {
    case 'written':
      return result.files;
    case 'failed':
      throw result.isTandem
        ? new TandemError(toErrorCode(result.code), result.message)
        : writeError(place, Object.assign(new Error(result.message), { code: result.code }));
    default:
      return result satisfies never;
  }
};

const totalBytes = (ranks: readonly RankTask[]): number => ranks.reduce((sum, { work }) => sum + workBytes(work), 0);

/** Threads only count, so that a slow listener cannot slow them down. */
const report = (
  progress: BigInt64Array,
  total: number,
  onProgress: WriteOptions['onProgress'] = () => {},
): (() => void) => {
  const tell = () => onProgress(Number(Atomics.load(progress, 0)), total);
  const timer = setInterval(tell, PROGRESS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    tell();
  };
};
