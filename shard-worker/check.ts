/** Reads a shard directory's manifest and proves a rank's files before anything is loaded from them. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TandemError } from '../partition/errors.js';
import { type FileEntry, FORMAT_VERSION, MANIFEST_FILE, type Manifest, type Profile } from '../partition/manifest.js';
import { manifestProblems, manifestSchema } from './manifest-schema.js';

const READ_BYTES = 4 << 20;
const REMEDY = 'make it again with "tandem partition"';

const checkDirectory = async (directory: string): Promise<void> => {
  const found = await stat(directory).catch(() => undefined);
  if (found === undefined) {
    throw new TandemError('SHARD_DIRECTORY_MISSING', `Shard directory "${directory}" does not exist; ${REMEDY}.`);
  }
  if (!found.isDirectory()) {
    throw new TandemError(
      'SHARD_DIRECTORY_INVALID',
      `Expected a shard directory, but "${directory}" is not a directory.`,
    );
  }
};

const readJson = async (directory: string): Promise<unknown> => {
  const path = join(directory, MANIFEST_FILE);
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new TandemError(
      'SHARD_DIRECTORY_INVALID',
      `"${directory}" is not a shard directory: it has no readable ${MANIFEST_FILE}; ${REMEDY}.`,
      {
        cause,
      },
    );
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TandemError('SHARD_MANIFEST_INVALID', `"${path}" is not JSON; ${REMEDY}.`, { cause });
  }
};

const checkVersion = (directory: string, json: unknown): void => {
  const found = typeof json === 'object' && json !== null && 'format_version' in json ? json.format_version : undefined;
  if (typeof found !== 'number') {
    throw new TandemError(
      'SHARD_MANIFEST_INVALID',
      `The ${MANIFEST_FILE} in "${directory}" has no format_version; ${REMEDY}.`,
    );
  }
  if (found !== FORMAT_VERSION) {
    throw new TandemError(
      'SHARD_FORMAT_VERSION',
      `Shard directory "${directory}" has format version ${found}, but this Tandem reads version ${FORMAT_VERSION}; ${REMEDY}.`,
    );
  }
};

/**
 * Reads and checks a shard directory's manifest; the files it lists are not looked at.
 * @throws TandemError `SHARD_DIRECTORY_MISSING`, `SHARD_DIRECTORY_INVALID`, `SHARD_FORMAT_VERSION`, `SHARD_MANIFEST_INVALID`
 */
export const readManifest = async (directory: string): Promise<Manifest> => {
  await checkDirectory(directory);
  const json = await readJson(directory);
  checkVersion(directory, json);
  const parsed = manifestSchema.safeParse(json);
  const problems = parsed.success
    ? manifestProblems(parsed.data)
    : parsed.error.issues.map((issue) => `${issue.path.join('.') || MANIFEST_FILE}: ${issue.message}`);
  if (parsed.success && problems.length === 0) return parsed.data;
  throw new TandemError(
    'SHARD_MANIFEST_INVALID',
    `The ${MANIFEST_FILE} in "${directory}" is not valid (${problems.length} problems, first: ${problems[0]}); ${REMEDY}.`,
    { problems },
  );
};

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

const digestOf = async (path: string, onBytes: (bytes: number) => void): Promise<string> => {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
    const bytes = chunk as Buffer;
    hash.update(bytes);
    onBytes(bytes.byteLength);
  }
  return hash.digest('hex');
};

const fileProblem = async (
  directory: string,
  file: FileEntry,
  onBytes: (bytes: number) => void,
): Promise<string | undefined> => {
  const path = join(directory, file.path);
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return `"${file.path}" is missing`;
  if (found.size !== file.bytes) return `"${file.path}" has ${found.size} bytes, expected ${file.bytes}`;
  const digest = await digestOf(path, onBytes);
  return digest === file.sha256
    ? undefined
    : `"${file.path}" has changed: its sha256 is ${digest}, expected ${file.sha256}`;
};

/**
 * Compares a rank's files with the manifest: present, of the right size, with the right digest.
 * @param onProgress bytes read so far, and of how many
 * @throws TandemError `SHARD_FILES` with every file that is wrong
 */
export const checkRankFiles = async (
  directory: string,
  manifest: Manifest,
  rank: number,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<void> => {
  const files = rankFiles(manifest, rank);
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
