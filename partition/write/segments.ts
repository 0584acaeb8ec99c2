/** Files of a shard directory, flushed. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { proofOf, READ_ONLY } from './hashed-file.js';
import type { FileEntry } from './manifest.js';
import type { EncodedSegment } from './tasks.js';

/** Flushing waits on the disk, so a few files wait at the same time. */
const FILES_AT_ONCE = 8;

/**
 * Writes a rank's segments below `directory` and flushes them.
 * @returns their entries for the manifest, in order
 * @throws NodeJS.ErrnoException from the file system
 */
export const writeSegments = async (
  directory: string,
  segments: readonly EncodedSegment[],
): Promise<readonly FileEntry[]> => {
  const entries: FileEntry[] = [];
  for (let first = 0; first < segments.length; first += FILES_AT_ONCE) {
    const some = segments.slice(first, first + FILES_AT_ONCE);
    entries.push(...(await Promise.all(some.map(({ file, graph }) => writeFileSynced(directory, file, graph)))));
  }
  return entries;
};

/** Writes and flushes a new file. */
export const writeFileSynced = async (directory: string, path: string, bytes: Uint8Array): Promise<FileEntry> => {
  const handle = await open(join(directory, path), 'wx', READ_ONLY);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { path, ...proofOf(bytes) };
};
