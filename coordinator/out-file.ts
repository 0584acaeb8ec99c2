/** Files that commands are asked to write: whether that can be is told before the work, which may take minutes, and not after it. */
import { open, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { TandemError } from '../common/errors.js';
import { systemError } from '../common/system-errors.js';

/** Opened and not only asked about, as permissions say nothing of a file system that is read-only or full. */
const tryOpening = async (file: string): Promise<void> => {
  const there = await stat(file).catch(() => undefined);
  // Pipes and devices, such as /dev/null, may be waited for or read once.
  if (there !== undefined && !there.isFile() && !there.isDirectory()) return;
  const handle = await open(file, there === undefined ? 'wx' : 'r+');
  await handle.close();
  if (there === undefined) await rm(file);
};

/**
 * Checks that a file can be written there; one that is there stays as it is.
 * @returns its absolute path
 * @throws TandemError `OUT_DIRECTORY`, `SYSTEM_REFUSED`
 */
export const checkOutFile = async (path: string): Promise<string> => {
  const file = resolve(path);
  const directory = await stat(dirname(file)).catch(() => undefined);
  if (!directory?.isDirectory()) {
    const found = directory === undefined ? 'nothing' : 'a file';
    throw new TandemError(
      'OUT_DIRECTORY',
      `Expected a directory at ${dirname(file)}, to write ${path} there; found ${found}. Make it first, or name another place.`,
    );
  }
  await tryOpening(file).catch((error: unknown) => {
    throw systemError(error) ?? error;
  });
  return file;
};
