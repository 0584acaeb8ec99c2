/**
 * Proves a rank's weights files at the first start, and remembers that: reading gigabytes again would be most of every later
 * start. What is remembered is the file's identity (place, size, times), which the system changes with every write to it,
 * so a file that was touched since is proved again. Damage that a disk does by itself is found at first starts only.
 */
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileEntry, Manifest } from '../partition/write/manifest.js';
import { checkFiles, isWeights, rankFiles, readThrough } from './check.js';
import type { Loader } from './loader.js';

/** A write within this time of the one before could leave the times as they were: file systems count in steps of up to 2 s. */
const SETTLED_MS = 2_000;

const recordOf = (path: string): string => `${path}.proved`;

interface Identity {
  readonly text: string;
  readonly isSettled: boolean;
}

/** Undefined where there is no such file. */
const identify = async (path: string, { gmac, sha256 }: FileEntry): Promise<Identity | undefined> => {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = await stat(path, { bigint: true });
    const text = [gmac ?? sha256, dev, ino, size, mtimeNs, ctimeNs].join(' ');
    return { text, isSettled: Date.now() - Number(ctimeMs) > SETTLED_MS };
  } catch {
    return undefined;
  }
};

const isRemembered = async (path: string, identity: Identity | undefined): Promise<boolean> => {
  const record = await readFile(recordOf(path), 'utf8').catch(() => undefined);
  return identity !== undefined && record === identity.text;
};

/** Where nothing can be written, every start proves the file. */
const remember = async (path: string, identity: Identity): Promise<void> => {
  const temporary = `${recordOf(path)}-${process.pid}`;
  await writeFile(temporary, identity.text)
    .then(() => rename(temporary, recordOf(path)))
    .catch(() => undefined);
};

/** Brings a file into memory in the order that disks are fast at. */
const readAhead = async (
  path: string,
  bytes: number,
  onProgress: (done: number, total: number) => void,
): Promise<void> => {
  let done = 0;
  await readThrough(path, (piece) => {
    done += piece.byteLength;
    onProgress(done, bytes);
  });
};

/**
 * Makes sure that a rank's weights are what the manifest says. A file that is known is only read ahead: to its end with the
 * loader `read`, else in the background.
 * @param onProgress bytes read so far, and of how many
 * @throws TandemError `SHARD_FILES`
 */
export const proveWeights = async (
  directory: string,
  manifest: Manifest,
  rank: number,
  loader: Loader,
  onProgress: (done: number, total: number) => void,
): Promise<void> => {
  const files = rankFiles(manifest, rank).filter((file) => isWeights(manifest, rank, file));
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let before = 0;
  for (const file of files) {
    await proveFile(directory, rank, file, loader, (done) => onProgress(before + done, total));
    before += file.bytes;
  }
};

const proveFile = async (
  directory: string,
  rank: number,
  file: FileEntry,
  loader: Loader,
  onProgress: (done: number, total: number) => void,
): Promise<void> => {
  const path = join(directory, file.path);
  const before = await identify(path, file);
  if (await isRemembered(path, before)) {
    if (loader === 'read') return readAhead(path, file.bytes, onProgress);
    // Whatever fails here fails again, and is told, where the sessions read.
    readAhead(path, file.bytes, () => undefined).catch(() => undefined);
    onProgress(file.bytes, file.bytes);
    return;
  }
  await checkFiles(directory, rank, [file], onProgress);
  const after = await identify(path, file);
  if (after?.isSettled && after.text === before?.text) await remember(path, after);
};
