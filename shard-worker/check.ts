/** Proves a rank's files before anything is loaded from them. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Checksum } from '../common/checksum.js';
import { TandemError } from '../common/errors.js';
import { type FileEntry, type Manifest, type Profile, weightsFiles } from '../partition/write/manifest.js';

const READ_BYTES = 4 << 20;
const READS_AHEAD = 4;
const REMEDY = 'make it again with "tandem partition"';

/**
 * The profile of that name.
 * @throws TandemError `SHARD_PROFILE_MISSING`
 */
export const findProfile = (manifest: Manifest, name: string): Profile => {
  const profile = manifest.profiles.find((candidate) => candidate.name === name);
  if (profile !== undefined) return profile;
  const names = manifest.profiles.map((candidate) => `"${candidate.name}"`).join(', ');
  throw new TandemError(
    'SHARD_PROFILE_MISSING',
    `The shard directory has profiles ${names}, but not "${name}"; partition again with those sizes.`,
  );
};

/** Files of one rank: all that lie in its folder. */
export const rankFiles = (manifest: Manifest, rank: number): readonly FileEntry[] => {
  const folder = manifest.ranks[rank]?.folder;
  return folder === undefined ? [] : manifest.files.filter((file) => file.path.startsWith(`${folder}/`));
};

export interface Prover {
  update(piece: Uint8Array): void;
  /** Hex. */
  digest(): string;
}

const sha256Prover = (): Prover => {
  const hash = createHash('sha256');
  return { update: (piece) => void hash.update(piece), digest: () => hash.digest('hex') };
};

/** One read under way and the buffer that it fills. */
interface Pending {
  readonly buffer: Buffer;
  readonly read: Promise<number>;
}

/** What proves a file, and what it must come to. */
export const proverOf = ({ gmac, sha256 }: FileEntry): { readonly prover: Prover; readonly expected: string } =>
  gmac === undefined ? { prover: sha256Prover(), expected: sha256 } : { prover: new Checksum(), expected: gmac };

/** Fills a buffer from a place in a file, however little a single read may give. @returns bytes; fewer at the file's end */
export const fill = async (file: FileHandle, buffer: Buffer, position: number): Promise<number> => {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
};

/**
 * Reads a file from start to end and hands out its pieces in order. Several reads are under way while the processor is at the
 * piece before: disks like that where the file is not cached, and over a network each read alone would wait for its answer.
 */
export const readThrough = async (path: string, onPiece: (piece: Uint8Array) => void): Promise<void> => {
  const file = await open(path);
  const ahead: Pending[] = [];
  try {
    let position = 0;
    const begin = (buffer: Buffer): void => {
      const read = fill(file, buffer, position);
      read.catch(() => undefined);
      ahead.push({ buffer, read });
      position += buffer.length;
    };
    for (let index = 0; index < READS_AHEAD; index++) begin(Buffer.allocUnsafeSlow(READ_BYTES));
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      const bytes = await next.read;
      if (bytes === 0) return;
      onPiece(next.buffer.subarray(0, bytes));
      begin(next.buffer);
    }
  } finally {
    await Promise.allSettled(ahead.map(({ read }) => read));
    await file.close();
  }
};

const contentProblem = async (
  directory: string,
  file: FileEntry,
  onBytes: (bytes: number) => void,
): Promise<string | undefined> => {
  const { path, bytes } = file;
  const { prover, expected } = proverOf(file);
  const take = (piece: Uint8Array): void => {
    prover.update(piece);
    onBytes(piece.byteLength);
  };
  if (bytes <= READ_BYTES) take(await readFile(join(directory, path)));
  else await readThrough(join(directory, path), take);
  const what = file.gmac === undefined ? 'sha256' : 'checksum';
  const found = prover.digest();
  return found === expected ? undefined : `"${path}" has changed: its ${what} is ${found}, expected ${expected}`;
};

const fileProblem = async (
  directory: string,
  file: FileEntry,
  onBytes: (bytes: number) => void,
): Promise<string | undefined> => {
  const found = await stat(join(directory, file.path)).catch(() => undefined);
  if (!found?.isFile()) return `"${file.path}" is missing`;
  if (found.size !== file.bytes) return `"${file.path}" has ${found.size} bytes, expected ${file.bytes}`;
  return contentProblem(directory, file, onBytes);
};

/** Whether a rank's weights are in this file. */
export const isWeights = (manifest: Manifest, rank: number, { path }: FileEntry): boolean => {
  const entry = manifest.ranks[rank];
  return entry !== undefined && weightsFiles(entry).includes(path);
};

/** Which of a rank's files to prove: its weights, or the graphs, which are a thousandth of it. */
export type RankPart = 'weights' | 'graphs';

const partOf = (manifest: Manifest, rank: number, file: FileEntry): RankPart =>
  isWeights(manifest, rank, file) ? 'weights' : 'graphs';

/**
 * Compares a rank's files with the manifest: present, of the right size, with the right checksum.
 * @param onProgress bytes read so far, and of how many
 * @param part only these; all where absent
 * @throws TandemError `SHARD_FILES` with every file that is wrong
 */
export const checkRankFiles = async (
  directory: string,
  manifest: Manifest,
  rank: number,
  onProgress: (done: number, total: number) => void = () => {},
  part?: RankPart,
): Promise<void> => {
  const all = rankFiles(manifest, rank);
  const files = part === undefined ? all : all.filter((file) => partOf(manifest, rank, file) === part);
  return checkFiles(directory, rank, files, onProgress);
};

/** As `checkRankFiles`, of given files. */
export const checkFiles = async (
  directory: string,
  rank: number,
  files: readonly FileEntry[],
  onProgress: (done: number, total: number) => void,
): Promise<void> => {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  const problems: string[] = [];
  let done = 0;
  for (const file of files) {
    const problem = await fileProblem(directory, file, (bytes) => {
      done += bytes;
      onProgress(done, total);
    });
    if (problem !== undefined) problems.push(problem);
  }
  if (problems.length > 0) {
    throw new TandemError(
      'SHARD_FILES',
      `Files of rank ${rank} in "${directory}" are damaged: ${problems.join('; ')}; ${REMEDY}.`,
      { problems },
    );
  }
};
