/** The digest that says whether two models are the same: of the graph, then of every weight's bytes. */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { TandemError } from '../../common/errors.js';
import type { WeightSource } from './weights.js';

const BLOCK_BYTES = 4 * 1024 * 1024;

export interface DigestOptions {
  /** Called after every few MB; both in bytes. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * @param graphBytes the encoded graph without its weights, or a digest of it
 * @param weights in a fixed order
 * @returns sha256 in hex
 * @throws TandemError WEIGHTS_MISSING or WEIGHTS_TOO_SHORT when a file is gone or was cut since the model was read; the
 * signal's reason when it aborts
 */
export const digestModel = async (
  graphBytes: Uint8Array,
  weights: readonly WeightSource[],
  options: DigestOptions = {},
): Promise<string> => {
  const hash = createHash('sha256').update(graphBytes);
  const total = weights.reduce((sum, { bytes }) => sum + bytes, 0);
  const buffer = new Uint8Array(BLOCK_BYTES);
  const files = new Map<string, FileHandle>();
  let before = 0;
  try {
    for (const weight of weights) {
      const handle = files.get(weight.file) ?? (await openWeights(weight));
      files.set(weight.file, handle);
      const start = before;
      await hashWeight(hash, handle, weight, buffer, (done) => {
        options.signal?.throwIfAborted();
        options.onProgress?.(start + done, total);
      });
      before += weight.bytes;
    }
  } finally {
    await Promise.all([...files.values()].map((handle) => handle.close()));
  }
  return hash.digest('hex');
};

const openWeights = async ({ name, file }: WeightSource): Promise<FileHandle> => {
  try {
    return await open(file);
  } catch (cause) {
    throw new TandemError(
      'WEIGHTS_MISSING',
      `Tensor "${name}" has its data in "${file}", which cannot be opened (${(cause as NodeJS.ErrnoException).code}); put that file beside the model.`,
      { cause },
    );
  }
};

const hashWeight = async (
  hash: Hash,
  handle: FileHandle,
  weight: WeightSource,
  buffer: Uint8Array,
  onBlock: (done: number) => void,
): Promise<void> => {
  for (let done = 0; done < weight.bytes; ) {
    const wanted = Math.min(buffer.byteLength, weight.bytes - done);
    const { bytesRead } = await handle.read(buffer, 0, wanted, weight.offset + done);
    if (bytesRead === 0) {
      throw new TandemError(
        'WEIGHTS_TOO_SHORT',
        `Tensor "${weight.name}" needs "${weight.file}" to have at least ${weight.offset + weight.bytes} bytes, found ${weight.offset + done}; the file was cut since the model was read.`,
      );
    }
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
    onBlock(done);
  }
};
