/** What of a file is in memory already: the page cache is dropped, warmed and its effect measured, without privileges. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { TandemError } from '../../common/errors.js';

const run = promisify(execFile);
const DROP_LIMIT_MS = 60_000;
const READ_BYTES = 4 << 20;

/**
 * Asks the system to forget a file's pages; those that a process has mapped stay. First they must be on the disk.
 * GNU dd does it: Node has no posix_fadvise(2).
 */
const dropFile = async (path: string): Promise<void> => {
  const file = await open(path, 'r+');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
  await run('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'], { timeout: DROP_LIMIT_MS });
};

/**
 * Makes the files cold.
 * @throws TandemError `PAGE_CACHE` where this system cannot
 */
export const dropPageCache = async (paths: readonly string[]): Promise<void> => {
  try {
    for (const path of paths) await dropFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.trim() : String(cause);
    throw new TandemError(
      'PAGE_CACHE',
      `The page cache cannot be dropped here, which takes Linux, GNU dd and files that this user may write: ${reason}. Leave cold runs out with --page-cache warm.`,
      { cause },
    );
  }
};

/** Reads the files from start to end, as fast as one reader can, which leaves them in the page cache where it is large enough. */
export const readSequentially = async (
  paths: readonly string[],
): Promise<{ readonly bytes: number; readonly ms: number }> => {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const start = performance.now();
  let bytes = 0;
  for (const path of paths) {
    const file = await open(path);
    try {
      let read = await file.read(buffer, 0, READ_BYTES, null);
      while (read.bytesRead > 0) {
        bytes += read.bytesRead;
        read = await file.read(buffer, 0, READ_BYTES, null);
      }
    } finally {
      await file.close();
    }
  }
  return { bytes, ms: performance.now() - start };
};

/** Bytes that the disk delivered to a process, by proc(5); undefined where the system does not say. */
export const bytesFromDisk = (pid: number): number | undefined => {
  if (process.platform !== 'linux') return undefined;
  try {
    const bytes = /^read_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1];
    return bytes === undefined ? undefined : Number(bytes);
  } catch {
    return undefined;
  }
};
