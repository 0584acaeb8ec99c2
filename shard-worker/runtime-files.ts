/**
 * The private directory of workers that may outlive their coordinator, as both sides find it:
 *
 *     coordinator.lock    which coordinator commands them now; on Linux the kernel keeps the lock, and this only names its holder
 *     workers.json        the workers: what the next coordinator looks for
 *     token               what it must show them
 *     control.sock, 0-Xy3_a.sock, rank-0.log, ...
 */
import { lstatSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { readPrivate } from './private-files.js';
import { isRunning, type ProcessIdentity, processIdentity } from './processes.js';
import { TOKEN_FILE } from './protocol.js';

export const LOCK_FILE = 'coordinator.lock';
export const REGISTRATION_FILE = 'workers.json';

const registeredWorker = z.object({
  rank: z.number().int().nonnegative(),
  process: processIdentity,
  /** Routing id under which the worker speaks. */
  id: z.string().min(1),
  /** File of its exchange socket. */
  socket: z.string(),
});
const registration = z.object({ workers: z.array(registeredWorker) });

export type RegisteredWorker = z.infer<typeof registeredWorker>;

const readJson = <T>(path: string, schema: z.ZodType<T>): T | undefined => {
  try {
    return schema.safeParse(JSON.parse(readPrivate(path))).data;
  } catch {
    return undefined;
  }
};

/** The registered workers that still run. */
export const runningWorkers = (directory: string): readonly RegisteredWorker[] =>
  (readJson(join(directory, REGISTRATION_FILE), registration)?.workers ?? []).filter((worker) =>
    isRunning(worker.process),
  );

/** What the lock says, whether or not that process still runs. */
export const readLock = (path: string): ProcessIdentity | undefined => readJson(path, processIdentity);

/** `sun_path` without the zero that begins an abstract name: a name of the whole length is the same in every version of Node. */
const ABSTRACT_NAME_BYTES = 107;

/**
 * The name of a directory's lock among the kernel's abstract sockets, which no cleaner of files can remove and which end with
 * their process. The directory's own number stands for it: one that took its place has a lock of its own.
 */
const lockName = (directory: string): string | undefined => {
  const stats = lstatSync(directory, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? undefined : `tandem-${stats.dev}-${stats.ino}-`.padEnd(ABSTRACT_NAME_BYTES, '-');
};

/** Where the lock of a directory is bound; undefined where the system has no such sockets, or there is no directory. */
export const lockSocket = (directory: string): string | undefined => {
  const name = process.platform === 'linux' ? lockName(directory) : undefined;
  return name === undefined ? undefined : `\0${name}`;
};

/** Whether any process holds the directory's lock in the kernel. */
const isLocked = (directory: string): boolean => {
  const name = lockSocket(directory)?.slice(1);
  return name !== undefined && readFileSync('/proc/net/unix', 'utf8').includes(` @${name}\n`);
};

/** The process that the lock file names, while it runs. */
export const lockHolder = (directory: string): ProcessIdentity | undefined => {
  const holder = readLock(join(directory, LOCK_FILE));
  return holder !== undefined && isRunning(holder) ? holder : undefined;
};

/** Whether a coordinator has the directory. */
export const isCommanded = (directory: string): boolean => isLocked(directory) || lockHolder(directory) !== undefined;

/** @throws when the file cannot be read, or others can get at it */
export const readToken = (directory: string): string => readPrivate(join(directory, TOKEN_FILE));

/** Whether a directory is still the one with this token: it may have been removed, and be another coordinator's by now. */
export const hasToken = (directory: string, token: string): boolean => {
  try {
    return readToken(directory) === token;
  } catch {
    return false;
  }
};

const attempt = (action: () => void): void => {
  try {
    action();
  } catch {
    // Something else has removed it, or still uses it.
  }
};

/**
 * Removes a directory whose workers have ended, and the one above it when that is empty. The lock goes last: until then no
 * other coordinator moves in.
 */
export const removeRuntimeDirectory = (directory: string): void => {
  attempt(() => {
    for (const name of readdirSync(directory)) {
      if (name !== LOCK_FILE) rmSync(join(directory, name), { recursive: true, force: true });
    }
  });
  attempt(() => rmSync(join(directory, LOCK_FILE), { force: true }));
  attempt(() => rmdirSync(directory));
  attempt(() => rmdirSync(dirname(directory)));
};
