/** The inside of a writing thread: writes one rank's files. */
import { join, posix } from 'node:path';
import { answer } from '../../common/answer.js';
import { TandemError } from '../../common/errors.js';
import { writeError } from './errors.js';
import { HashedFile } from './hashed-file.js';
import type { FileEntry } from './manifest.js';
import { optimiseRank } from './optimise/optimise-rank.js';
import { writeSegments } from './segments.js';
import { SliceCopier } from './slice-copy.js';
import {
  type CopyRank,
  DONE_BYTES,
  type RankPlace,
  STOP,
  WEIGHTS_FILE,
  type WriteResult,
  type WriteTask,
} from './tasks.js';
import { BLOCK_BYTES, writeSlices } from './write-slices.js';

/** Slices, hashes and writes the weights file in one pass. */
const copyWeights = ({ directory, folder }: RankPlace, slices: CopyRank['slices'], onBytes: OnBytes): FileEntry => {
  const path = posix.join(folder, WEIGHTS_FILE);
  const copier = new SliceCopier(BLOCK_BYTES);
  const file = new HashedFile(join(directory, path));
  try {
    writeSlices(file, copier, slices, onBytes);
    return { path, ...file.finish() };
  } finally {
    file.close();
    copier.close();
  }
};

type OnBytes = (bytes: number) => void;

const checkStop = (shared: WriteTask['shared']): void => {
  if (Atomics.load(shared, STOP) !== 0n) throw new TandemError('WRITE_STOPPED', 'Another rank has failed.');
};

const writeRank = async ({ work, shared, ...place }: WriteTask): Promise<readonly FileEntry[]> => {
  checkStop(shared);
  const onBytes = (bytes: number): void => {
    Atomics.add(shared, DONE_BYTES, BigInt(bytes));
    checkStop(shared);
  };
  switch (work.kind) {
    case 'copy':
      return [copyWeights(place, work.slices, onBytes), ...(await writeSegments(place.directory, work.segments))];
    case 'optimise':
      return optimiseRank(place, work, onBytes);
    default:
      return work satisfies never;
  }
};

/** The thread's task, called by the pool. What the system says is put in words here: its codes do not cross a thread. */
export default (task: WriteTask): Promise<WriteResult> =>
  answer(() =>
    writeRank(task).catch((error: unknown) => {
      throw writeError(join(task.directory, task.folder), error);
    }),
  );
