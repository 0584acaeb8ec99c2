/**
 * A shard directory is written beside its final place and renamed into it, so that whoever looks sees the old one whole
 * or the new one whole. What a killed run left is swept by a later one.
 *
 *     .<name>.partial-<id>   being written
 *     .<name>.old-<id>       the one before, from the moment it makes way until it is deleted
 *
 * Ids are random, and a writer shows that it lives by touching a file: containers that share a cache all have a process 1, and none
 * sees the others' processes. Times are compared with each other only as the file system gives them.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TandemError } from '../../common/errors.js';
import { diskFull, writeError } from './errors.js';
import { MANIFEST_FILE } from './manifest.js';

export interface Staging {
  /** Absolute; exists and is empty. */
  readonly directory: string;
  /** Puts the directory in its final place. */
  publish(): Promise<void>;
  /** Removes the directory. */
  discard(): Promise<void>;
}

/** Final places that this process is writing for. */
const active = new Set<string>();

const ALIVE_FILE = '.alive';
const BEAT_MS = 1_000;
/** A writer that has not shown itself for so long is gone, or so slow that its work may be done again. */
const ABANDONED_MS = 10_000;
const LOOK_MS = 250;
const PLACE_ATTEMPTS = 3;
const RANK_FOLDER = /^rank-\d+$/;

/**
 * Makes the directory to write in.
 * @param out the final place: new, empty, or an earlier shard directory
 * @param bytes that will be written, at least
 * @throws TandemError WRITE_OCCUPIED when something else is there, WRITE_BUSY when this process is writing it already,
 * WRITE_DISK_FULL, WRITE_DENIED, WRITE_FAILED
 */
export const stage = async (out: string, bytes: number): Promise<Staging> => {
  const target = await followLink(resolve(out));
  try {
    return await stageAt(target, bytes);
  } catch (error) {
    throw writeError(target, error);
  }
};

const stageAt = async (target: string, bytes: number): Promise<Staging> => {
  if (active.has(target)) {
    throw new TandemError(
      'WRITE_BUSY',
      `"${target}" is being written already; wait for that to end or choose another directory.`,
    );
  }
  active.add(target);
  const id = randomBytes(8).toString('hex');
  const directory = join(dirname(target), `.${basename(target)}.partial-${id}`);
  try {
    await mkdir(dirname(target), { recursive: true });
    await mkdir(directory);
    await sweep(target, directory);
    await checkReplaceable(target);
    await makeRoom(target, directory, bytes);
  } catch (error) {
    active.delete(target);
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  let beating: Promise<unknown> = Promise.resolve();
  const timer = setInterval(() => {
    beating = beat(directory).catch(() => undefined);
  }, BEAT_MS).unref();
  /** Then nothing touches the directory any more: a sign of life that comes late would be published with it. */
  const still = async () => {
    clearInterval(timer);
    await beating;
  };
  const end = () => void active.delete(target);
  return {
    directory,
    publish: () =>
      still()
        .then(() => publish(directory, target, id))
        .finally(end),
    discard: () =>
      still()
        .then(() => rm(directory, { recursive: true, force: true }))
        .finally(end),
  };
};

/** @returns the file system's time of it, in ms */
const beat = async (directory: string): Promise<number> => {
  const path = join(directory, ALIVE_FILE);
  await writeFile(path, '');
  return (await stat(path)).mtimeMs;
};

const followLink = async (path: string): Promise<string> => realpath(path).catch(() => path);

const publish = async (directory: string, target: string, id: string): Promise<void> => {
  const old = join(dirname(target), `.${basename(target)}.old-${id}`);
  try {
    await rm(join(directory, ALIVE_FILE), { force: true });
    await syncDirectory(directory);
    await takePlace(directory, target, old);
  } catch (error) {
    await rename(`${old}1`, target).catch(() => {});
    throw writeError(target, error);
  }
  await syncDirectory(dirname(target));
  for (let attempt = 1; attempt <= PLACE_ATTEMPTS; attempt++)
    await rm(`${old}${attempt}`, { recursive: true, force: true });
};

/** Another writer may put its own directory there in between, or put back the one that had made way: the last one wins. */
const takePlace = async (directory: string, target: string, old: string): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    await moveAside(target, `${old}${attempt}`);
    try {
      await rename(directory, target);
      return;
    } catch (error) {
      if (attempt === PLACE_ATTEMPTS || !isOccupied(error)) throw error;
    }
  }
};

const moveAside = async (target: string, old: string): Promise<void> => {
  try {
    await rename(target, old);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
};

/** Makes renames and new names last; Windows has no such call for directories. */
export const syncDirectory = async (directory: string): Promise<void> => {
  if (process.platform === 'win32') return;
  const handle = await open(directory);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const isOccupied = (error: unknown): boolean =>
  ['ENOTEMPTY', 'EEXIST'].includes(String((error as NodeJS.ErrnoException).code));

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/**
 * Removes what dead writers left beside `target`, and puts back a directory that had only just made way.
 * @param own this writer's directory
 * @returns whether there are others that may still be alive
 */
const sweep = async (target: string, own: string): Promise<boolean> => {
  const parent = dirname(target);
  const now = await beat(own);
  let othersLive = false;
  for (const entry of await readdir(parent)) {
    const path = join(parent, entry);
    const kind = kindOf(basename(target), entry);
    if (kind === undefined || path === own) continue;
    if (kind === 'old' && !(await exists(target))) await rename(path, target).catch(() => undefined);
    else if (now - (await lastSign(path)) > ABANDONED_MS) await rm(path, { recursive: true, force: true });
    else othersLive = true;
  }
  return othersLive;
};

const kindOf = (name: string, entry: string): 'partial' | 'old' | undefined => {
  if (!entry.startsWith(`.${name}.`)) return undefined;
  const [, kind] = /^(partial|old)-[0-9a-f]+$/.exec(entry.slice(name.length + 2)) ?? [];
  return kind === 'partial' || kind === 'old' ? kind : undefined;
};

/** When a writer last showed that it lives, in the file system's ms; a directory that made way shows when it did. */
const lastSign = async (path: string): Promise<number> => {
  const alive = await stat(join(path, ALIVE_FILE)).catch(() => undefined);
  return alive?.mtimeMs ?? (await stat(path).catch(() => undefined))?.ctimeMs ?? 0;
};

/** Where the disk is too full, what others left may be swept once it is known that they are gone. */
const makeRoom = async (target: string, own: string, bytes: number): Promise<void> => {
  const end = performance.now() + ABANDONED_MS + LOOK_MS;
  for (;;) {
    const problem = await spaceProblem(target, bytes);
    if (problem === undefined) return;
    if (performance.now() > end || !(await sweep(target, own))) throw (await spaceProblem(target, bytes)) ?? problem;
    await delay(LOOK_MS);
  }
};

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Nothing is deleted that a shard directory would not contain. */
const checkReplaceable = async (target: string): Promise<void> => {
  const entries = await readdir(target).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  if (entries.length === 0) return;
  if (looksLikeShards(entries)) return;
  const own = await ownEntries(target);
  const foreign = entries.filter((entry) => !own.has(entry));
  if (foreign.length === 0) return;
  throw new TandemError(
    'WRITE_OCCUPIED',
    `"${target}" holds other things than a shard directory (${foreign.slice(0, 3).join(', ')}); choose another directory or remove it.`,
  );
};

/** Also where the manifest is damaged or gone: shards are derived data, and are made anew. */
const looksLikeShards = (entries: readonly string[]): boolean =>
  entries.some((entry) => RANK_FOLDER.test(entry)) &&
  entries.every((entry) => entry === MANIFEST_FILE || RANK_FOLDER.test(entry));

/** What the manifest says is in a shard directory of any format version; nothing where there is no manifest. */
const ownEntries = async (target: string): Promise<ReadonlySet<string>> => {
  try {
    const manifest: { format_version: unknown; files: { path: string }[] } = JSON.parse(
      await readFile(join(target, MANIFEST_FILE), 'utf8'),
    );
    if (typeof manifest.format_version !== 'number') return new Set();
    return new Set([MANIFEST_FILE, ...manifest.files.map(({ path }) => path.split('/')[0] ?? '')]);
  } catch {
    return new Set();
  }
};

const spaceProblem = async (target: string, needed: number): Promise<TandemError | undefined> => {
  const { blocks, bavail, bsize } = await statfs(dirname(target));
  const free = bavail * bsize;
  return blocks > 0 && free < needed ? diskFull(target, needed, free) : undefined;
};
