/** One coordinator per directory: a lock file that names the process, so that a dead one's lock can be told from a live one's. */
import { randomBytes } from 'node:crypto';
import { linkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isRunning, ownIdentity, type ProcessIdentity } from '../../shard-worker/processes.js';
import { LOCK_FILE, readLock } from '../../shard-worker/registry.js';

const isExisting = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EEXIST';

/** Links a written file into place: the lock appears whole or not at all, and only where there is none. */
const tryLink = (temporary: string, path: string): boolean => {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (isExisting(error)) return false;
    throw error;
  }
};

/**
 * Moves a dead holder's lock out of the way. Another coordinator may have done so first and taken the lock: then it is that
 * one's lock that was moved, and it is put back.
 */
const clearStale = (path: string, aside: string): void => {
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  const moved = readLock(aside);
  if (moved !== undefined && isRunning(moved)) tryLink(aside, path);
  rmSync(aside, { force: true });
};

/**
 * Takes the lock of a directory.
 * @returns undefined when it is this process's now, else the process that has it
 */
export const takeLock = (directory: string): ProcessIdentity | undefined => {
  const path = join(directory, LOCK_FILE);
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(temporary, JSON.stringify(ownIdentity()), { mode: 0o600, flag: 'wx' });
  try {
    if (tryLink(temporary, path)) return undefined;
    const holder = readLock(path);
    if (holder !== undefined && isRunning(holder)) return holder;
    clearStale(path, `${temporary}.stale`);
    return tryLink(temporary, path) ? undefined : (readLock(path) ?? holder);
  } finally {
    rmSync(temporary, { force: true });
  }
};

export const releaseLock = (directory: string): void => rmSync(join(directory, LOCK_FILE), { force: true });
