/** The outside of the writing threads: all ranks' weights files at once, as many threads as there are cores. */
import { setMaxListeners } from 'node:events';
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { TandemError } from '../errors.js';
import { writeError } from './errors.js';
import type { StoredSlice, WriteResult, WriteTask } from './tasks.js';

const PROGRESS_INTERVAL_MS = 100;

export interface WeightsFile {
  /** Absolute. */
  readonly file: string;
  readonly slices: readonly StoredSlice[];
}

export interface WrittenFile {
  readonly bytes: number;
  readonly sha256: string;
}

export interface WriteOptions {
  /** Bytes of weights written, of all ranks together. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes the files, in threads that have ended when this returns or throws.
 * @throws TandemError as `writeError` has it; the signal's reason when it aborts
 */
export const writeWeightsFiles = async (
  files: readonly WeightsFile[],
  options: WriteOptions,
): Promise<readonly WrittenFile[]> => {
  const pool = new Piscina<WriteTask, WriteResult>({
    filename: new URL('./write-thread.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: Math.min(files.length, availableParallelism()),
  });
  const progress = new BigInt64Array(new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT));
  const stopReporting = report(progress, sliceBytes(files), options.onProgress);
  const failure = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failure.signal]) : failure.signal;
  // Every task listens to it, and Node takes more than ten listeners for a leak.
  setMaxListeners(0, signal);
  try {
    return await Promise.all(
      files.map(async (file) => unwrap(await pool.run({ ...file, progress }, { signal }), file.file)),
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

const unwrap = (result: WriteResult, file: string): WrittenFile => {
  switch (result.kind) {
    case 'written':
      return result;
    case 'failed':
      throw result.code.startsWith('WEIGHTS_')
        ? new TandemError(result.code, result.message)
        : writeError(file, Object.assign(new Error(result.message), { code: result.code }));
    default:
      return result satisfies never;
  }
};

const sliceBytes = (files: readonly WeightsFile[]): number =>
  files.reduce((sum, { slices }) => sum + slices.reduce((bytes, { layout }) => bytes + layout.bytes, 0), 0);

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
