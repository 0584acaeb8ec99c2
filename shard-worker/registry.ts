/**
 * The private directory of workers that may outlive their coordinator, as both sides find it:
 *
 *     coordinator.lock    the coordinator that commands them now
 *     workers.json        the workers: what the next coordinator looks for
 *     token               what it must show them
 *     control.sock, rank-0.sock, rank-0.log, ...
 */
import { readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
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
    return schema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data;
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

/** The coordinator that has the directory; undefined if it is gone. */
export const lockHolder = (directory: string): ProcessIdentity | undefined => {
  const holder = readLock(join(directory, LOCK_FILE));
  return holder !== undefined && isRunning(holder) ? holder : undefined;
};

/** @throws when the file cannot be read */
export const readToken = (directory: string): string => readFileSync(join(directory, TOKEN_FILE), 'utf8');

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
