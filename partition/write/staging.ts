/**
 * A shard directory is written beside its final place and renamed into it, so that whoever looks sees the old one whole
 * or the new one whole. What a killed run left is swept by the next one.
 *
 *     .<name>.partial-<pid>   being written
 *     .<name>.old-<pid>       the one before, from the moment it makes way until it is deleted
 */
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
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

/** Directories that this process is writing: others that bear its pid are from a dead process that had the same one. */
const active = new Set<string>();

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
  const parent = dirname(target);
  const directory = join(parent, `.${basename(target)}.partial-${process.pid}`);
  if (active.has(directory)) {
    throw new TandemError(
      'WRITE_BUSY',
      `"${target}" is being written already; wait for that to end or choose another directory.`,
    );
  }
  active.add(directory);
  try {
    await mkdir(parent, { recursive: true });
    await sweep(target);
    await checkReplaceable(target);
    await checkSpace(target, bytes);
    // Its name is ours, so what has it already is from a dead process with the same pid.
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory);
  } catch (error) {
    active.delete(directory);
    throw error;
  }
  const end = () => active.delete(directory);
  return {
    directory,
    publish: () => publish(directory, target).finally(end),
    discard: () => rm(directory, { recursive: true, force: true }).finally(end),
  };
};

const followLink = async (path: string): Promise<string> => realpath(path).catch(() => path);

const publish = async (directory: string, target: string): Promise<void> => {
  const old = join(dirname(target), `.${basename(target)}.old-${process.pid}`);
  try {
    await syncDirectory(directory);
    await moveAside(target, old);
    await rename(directory, target);
  } catch (error) {
    await rename(old, target).catch(() => {});
    throw writeError(target, error);
  }
  await syncDirectory(dirname(target));
  await rm(old, { recursive: true, force: true });
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

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** Removes what dead processes left beside `target`, and puts back a directory that had only just made way. */
const sweep = async (target: string): Promise<void> => {
  const parent = dirname(target);
  for (const entry of await readdir(parent)) {
    const left = parseLeftover(basename(target), entry);
    if (!left || isWriting(left.pid, join(parent, entry))) continue;
    if (left.kind === 'old' && !(await exists(target))) await rename(join(parent, entry), target);
    else await rm(join(parent, entry), { recursive: true, force: true });
  }
};

const parseLeftover = (
  name: string,
  entry: string,
): { readonly kind: 'partial' | 'old'; readonly pid: number } | undefined => {
  if (!entry.startsWith(`.${name}.`)) return undefined;
  const [, kind, pid] = /^(partial|old)-(\d+)$/.exec(entry.slice(name.length + 2)) ?? [];
  return kind === 'partial' || kind === 'old' ? { kind, pid: Number(pid) } : undefined;
};

const isWriting = (pid: number, path: string): boolean => {
  if (pid === process.pid) return active.has(path);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
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
  const own = await ownEntries(target);
  const foreign = entries.filter((entry) => !own.has(entry));
  if (foreign.length === 0) return;
  throw new TandemError(
    'WRITE_OCCUPIED',
    `"${target}" holds other things than a shard directory (${foreign.slice(0, 3).join(', ')}); choose another directory or remove it.`,
  );
};

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

const checkSpace = async (target: string, needed: number): Promise<void> => {
  const { blocks, bavail, bsize } = await statfs(dirname(target));
  const free = bavail * bsize;
  if (blocks > 0 && free < needed) throw diskFull(target, needed, free);
};
