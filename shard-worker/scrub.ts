/**
 * Reads the mapped weights again and again, slowly, for as long as the worker lives: what is proved at the start may be damaged
 * later, by a disk or by whoever writes to the file, and the next step would compute with it. A file is kept open, so that it is
 * the mapped one that is read, also when another has taken its name.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TandemError } from '../common/errors.js';
import type { FileEntry } from '../partition/write/manifest.js';
import { fill, isWeights, proverOf, rankFiles } from './check.js';
import type { Part } from './part.js';

const PIECE_BYTES = 1 << 20;
/** After every piece: at most 64 MB a second, a hundredth of what a core can check. */
const PIECE_PAUSE_MS = 16;
const ROUND_PAUSE_MS = 2_000;

interface Watched {
  readonly part: Part;
  readonly file: FileEntry;
  readonly handle: FileHandle;
}

const watch = (part: Part): Promise<readonly Watched[]> => {
  const { manifest, directory, rank } = part;
  const files = rankFiles(manifest, rank).filter((file) => isWeights(manifest, rank, file));
  return Promise.all(files.map(async (file) => ({ part, file, handle: await open(join(directory, file.path)) })));
};

const isIntact = async ({ file, handle }: Watched): Promise<boolean> => {
  const { prover, expected } = proverOf(file);
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (let position = 0; ; position += buffer.length) {
    const bytes = await fill(handle, buffer, position);
    prover.update(buffer.subarray(0, bytes));
    if (bytes < buffer.length) return prover.digest() === expected;
    await delay(PIECE_PAUSE_MS, undefined, { ref: false });
  }
};

const changed = ({ part, file }: Watched): TandemError =>
  new TandemError(
    'SHARD_FILES',
    `"${file.path}" in "${part.directory}" has changed while it was in use; make it again with "tandem partition".`,
  );

/**
 * Watches over the weights of a rank's parts.
 * @returns never, unless there are none
 * @throws TandemError `SHARD_FILES` once one has changed; a system error where one cannot be read
 */
export const scrub = async (parts: readonly Part[]): Promise<void> => {
  const watched = (await Promise.all(parts.map(watch))).flat();
  while (watched.length > 0) {
    for (const one of watched) if (!(await isIntact(one))) throw changed(one);
    await delay(ROUND_PAUSE_MS, undefined, { ref: false });
  }
};
