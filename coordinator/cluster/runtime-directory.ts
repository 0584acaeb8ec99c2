/**
 * The private place of workers that may outlive their coordinator: one directory per cluster config, and in it one per set of
 * shards, devices and versions, so that a coordinator only ever finds workers that are just what it needs.
 * `shard-worker/runtime-files.ts` says what is in it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ONNXRUNTIME_VERSION } from '../../common/onnxruntime.js';
import { TOOL_VERSION } from '../../common/version.js';
import { makePrivate } from '../../shard-worker/private-files.js';
import { isRunning, type ProcessIdentity, signalProcess } from '../../shard-worker/processes.js';
import { PROTOCOL_VERSION, TOKEN_FILE } from '../../shard-worker/protocol.js';
import {
  hasToken,
  isCommanded,
  REGISTRATION_FILE,
  type RegisteredWorker,
  readToken,
  removeRuntimeDirectory,
  runningWorkers,
} from '../../shard-worker/runtime-files.js';
import { type Endpoints, hasSockets, removeSockets, socketsIn } from './endpoints.js';
import { clusterInUse } from './errors.js';
import { type Lock, takeLock } from './lock.js';

/** How workers outlive their coordinator. */
export interface Detached {
  /** Private directory of the cluster config; made where it is missing. Short: sockets are in it. */
  readonly directory: string;
  /** How long loaded workers wait for the next coordinator, in ms. */
  readonly keepWarmMs: number;
}

/** All that must be the same for workers to be taken over. */
export interface Identity {
  readonly networks: readonly unknown[];
  readonly devices: readonly unknown[];
  readonly workerEntry: string;
  readonly sharesMemory: boolean;
}

/** A directory that this process commands. */
export interface Runtime {
  readonly directory: string;
  readonly token: string;
  /** Workers of an earlier coordinator that still run. */
  readonly found: readonly RegisteredWorker[];
  readonly endpoints: Endpoints;
  readonly log: (rank: number) => string;
  /** Writes down which workers there are, for the next coordinator. */
  readonly register: (workers: readonly RegisteredWorker[]) => void;
  /** Leaves the directory as it is to the next coordinator. */
  readonly leave: () => void;
}

const KEY_DIGITS = 10;
const KEY = new RegExp(`^[0-9a-f]{${KEY_DIGITS}}$`);
/** Generous: a killed process must still be scheduled to end, and the machine may be busy. */
const END_MS = 10_000;
const LOOK_MS = 10;

type TakenLock = Extract<Lock, { kind: 'taken' }>;

/** Those that this process commands. */
const ownDirectories = new Set<string>();

const digest = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, KEY_DIGITS);

const real = (path: string): string => {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
};

/** Where the workers of a cluster config live, by the config's file: in the user's runtime directory, else under the system's temporary one. */
export const runtimeDirectory = (configFile: string): string => {
  const user = process.getuid?.() ?? 0;
  const given = process.env.XDG_RUNTIME_DIR;
  // The system's own links end here (macOS has /tmp as one); from here on there may be none.
  const root = given ? join(real(given), 'tandem') : join(real(tmpdir()), `tandem-${user}`);
  return join(root, digest(resolve(configFile)));
};

const untilGone = async (identity: ProcessIdentity): Promise<void> => {
  const end = performance.now() + END_MS;
  while (isRunning(identity) && performance.now() < end) await delay(LOOK_MS);
};

const endAll = async (workers: readonly RegisteredWorker[]): Promise<void> => {
  for (const worker of workers) signalProcess(worker.process, 'SIGKILL');
  await Promise.all(workers.map((worker) => untilGone(worker.process)));
};

/** Directories that `openRuntime` made, and nothing else that may lie beside them. */
const siblings = (root: string, own: string): readonly string[] =>
  readdirSync(root)
    .filter((name) => KEY.test(name) && name !== own)
    .map((name) => join(root, name))
    .filter((directory) => existsSync(join(directory, TOKEN_FILE)));

const sweep = async (root: string, own: string, onNotice: (message: string) => void): Promise<void> => {
  for (const directory of siblings(root, own)) {
    const lock = isCommanded(directory) ? undefined : await takeLock(directory);
    if (lock?.kind !== 'taken') continue;
    const workers = runningWorkers(directory);
    if (workers.length > 0)
      onNotice(`Ending ${workers.length} workers that an earlier coordinator left behind: they hold other shards.`);
    await endAll(workers);
    removeRuntimeDirectory(directory);
    lock.release();
  }
};

/** In place of what was there; nothing is ever written through a link. */
const writeNew = (path: string, content: string): void => {
  rmSync(`${path}.new`, { force: true });
  writeFileSync(`${path}.new`, content, { mode: 0o600, flag: 'wx' });
  renameSync(`${path}.new`, path);
};

const makeToken = (directory: string): string => {
  const token = randomBytes(32).toString('hex');
  writeNew(join(directory, TOKEN_FILE), token);
  return token;
};

type Found = Pick<Runtime, 'found' | 'token'>;

/** The workers that this process can command; those whose token is lost are ended. */
const findWorkers = async (directory: string): Promise<Found> => {
  const found = runningWorkers(directory);
  if (existsSync(join(directory, TOKEN_FILE))) return { found, token: readToken(directory) };
  await endAll(found);
  return { found: [], token: makeToken(directory) };
};

const register = (directory: string, workers: readonly RegisteredWorker[]): void =>
  writeNew(join(directory, REGISTRATION_FILE), JSON.stringify({ workers }));

/** A directory that this process commands, also when somebody has removed it. */
class HeldDirectory {
  readonly #directory: string;
  readonly #token: string;
  #lock: TakenLock;
  #identity: string | undefined;

  constructor(directory: string, token: string, lock: TakenLock) {
    this.#directory = directory;
    this.#token = token;
    this.#lock = lock;
    this.#identity = identityOf(directory);
  }

  /**
   * Makes the directory again as it was, but for its sockets.
   * @throws TandemError `CLUSTER_IN_USE` where another coordinator has made it meanwhile, `RUNTIME_DIRECTORY`
   */
  async restore(listening: readonly string[]): Promise<boolean> {
    if (this.#isIntact(listening)) return false;
    makePrivate(this.#directory);
    if (identityOf(this.#directory) !== this.#identity) {
      const lock = await takeLock(this.#directory);
      if (lock.kind === 'held') throw clusterInUse(this.#directory, lock.pid);
      this.#lock.release();
      this.#lock = lock;
      this.#identity = identityOf(this.#directory);
    }
    // A disk may be full, and it was there.
    if (!hasToken(this.#directory, this.#token)) writeNew(join(this.#directory, TOKEN_FILE), this.#token);
    removeSockets(this.#directory);
    return true;
  }

  /** Leaves the directory as it is. */
  leave(): void {
    ownDirectories.delete(this.#directory);
    this.#lock.release();
  }

  /** Never one that another coordinator has made in its place. */
  remove(): void {
    if (identityOf(this.#directory) === this.#identity) removeRuntimeDirectory(this.#directory);
    this.leave();
  }

  #isIntact(listening: readonly string[]): boolean {
    const isSame = identityOf(this.#directory) === this.#identity;
    return isSame && hasToken(this.#directory, this.#token) && hasSockets(this.#directory, listening);
  }
}

/** Tells a directory from one that took its place. */
const identityOf = (directory: string): string | undefined => {
  try {
    const { dev, ino } = lstatSync(directory, { bigint: true });
    return `${dev}/${ino}`;
  } catch {
    return undefined;
  }
};

const endpointsIn = (directory: string, held: HeldDirectory): Endpoints => ({
  ...socketsIn(directory),
  restore: (listening) => held.restore(listening),
  remove: async () => {
    held.remove();
  },
});

/** The worker program's own time of change stands for its version while it is being developed. */
const keyOf = (identity: Identity, turn: number): string =>
  digest({
    ...identity,
    turn,
    entryChanged: statSync(identity.workerEntry).mtimeMs,
    versions: [PROTOCOL_VERSION, TOOL_VERSION, ONNXRUNTIME_VERSION, process.version],
  });

/**
 * The directory's name: the one that has workers to take over, or else one that is free. There are two in turn, because a group
 * that replaces another one with the same shards, in the same process, cannot have the same sockets.
 */
const chooseKey = (root: string, identity: Identity): string => {
  const keys = [0, 1].map((turn) => keyOf(identity, turn));
  const free = keys.filter((key) => !ownDirectories.has(join(root, key)));
  const inUse = free.find((key) => runningWorkers(join(root, key)).length > 0);
  return inUse ?? free[0] ?? keyOf(identity, 0);
};

/**
 * Takes command of the directory for these shards and devices, and ends abandoned workers of the same config that have others.
 * @throws TandemError `CLUSTER_IN_USE` when another coordinator has it, `RUNTIME_DIRECTORY` when others can get at it
 */
export const openRuntime = async (
  detached: Detached,
  identity: Identity,
  onNotice: (message: string) => void,
): Promise<Runtime> => {
  const root = resolve(detached.directory);
  makePrivate(root);
  const key = chooseKey(root, identity);
  const directory = join(root, key);
  makePrivate(directory);
  const lock = await takeLock(directory);
  if (lock.kind === 'held') throw clusterInUse(directory, lock.pid);
  ownDirectories.add(directory);
  try {
    await sweep(root, key, onNotice);
    const { found, token } = await findWorkers(directory);
    // The control socket goes too: its owner is gone where the lock is in hand.
    const used = found.map(({ socket }) => socket);
    removeSockets(directory, used);
    const held = new HeldDirectory(directory, token, lock);
    return {
      directory,
      found,
      token,
      endpoints: endpointsIn(directory, held),
      log: (rank) => join(directory, `rank-${rank}.log`),
      register: (workers) => register(directory, workers),
      leave: () => held.leave(),
    };
  } catch (error) {
    ownDirectories.delete(directory);
    lock.release();
    throw error;
  }
};
