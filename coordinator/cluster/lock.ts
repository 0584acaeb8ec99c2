/**
 * One coordinator per directory. What holds the lock ends with its process and is out of the reach of those who clean temporary
 * directories; a lock file beside it names the process, so that a dead one's can be told from a live one's.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { isRunning, ownIdentity, type ProcessIdentity, processIdentity } from '../../shard-worker/processes.js';
import { LOCK_FILE, lockSocket, readLock } from '../../shard-worker/runtime-files.js';

/** How long a holder may take to say who it is, in ms: it may be busy, or stopped. */
const ANSWER_MS = 500;

const isCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** Links a written file into place: the lock appears whole or not at all, and only where there is none. */
const tryLink = (temporary: string, path: string): boolean => {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false;
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

/** Takes the lock file. @returns undefined when it is this process's now, else the process that has it */
const takeFile = (directory: string): ProcessIdentity | undefined => {
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

/** Asks whoever holds the lock in the kernel who that is. */
const askHolder = async (socket: string): Promise<ProcessIdentity | undefined> => {
  const connection = connect(socket);
  const timer = setTimeout(() => connection.destroy(), ANSWER_MS);
  try {
    return processIdentity.safeParse(JSON.parse(await text(connection))).data;
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    connection.destroy();
  }
};

/** @returns undefined where another process has it */
const bindLock = (socket: string): Promise<Server | undefined> =>
  new Promise((resolve, reject) => {
    const server = createServer((connection) => {
      connection.on('error', () => undefined);
      connection.end(JSON.stringify(ownIdentity()));
    });
    server.once('error', (error) => (isCode(error, 'EADDRINUSE') ? resolve(undefined) : reject(error)));
    server.listen(socket, () => resolve(server.unref()));
  });

/** A directory's lock, in hand or not. */
export type Lock =
  | { readonly kind: 'taken'; readonly release: () => void }
  /** `pid` is absent where the holder does not say. */
  | { readonly kind: 'held'; readonly pid?: number };

const held = (holder: ProcessIdentity | undefined): Lock => ({ kind: 'held', ...(holder ? { pid: holder.pid } : {}) });

/**
 * Takes the lock of a directory. On Linux the kernel holds it, as a bound socket; elsewhere the file that names the holder is all
 * there is.
 */
export const takeLock = async (directory: string): Promise<Lock> => {
  const socket = lockSocket(directory);
  const server = socket === undefined ? undefined : await bindLock(socket);
  if (socket !== undefined && server === undefined) return held(await askHolder(socket));
  const holder = takeFile(directory);
  if (holder !== undefined) {
    server?.close();
    return held(holder);
  }
  return {
    kind: 'taken',
    release: () => {
      rmSync(join(directory, LOCK_FILE), { force: true });
      server?.close();
    },
  };
};
