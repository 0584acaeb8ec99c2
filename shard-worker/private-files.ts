/**
 * Directories and files that nobody but this user can have made, changed or put in place of others. Every directory on the way
 * is looked at itself, never what a link points to: where each belongs to this user or to the system, and others can rename nothing
 * in it, a path means the same thing at the next look, so that checking it first and using it afterwards is safe.
 */

import type { Stats } from 'node:fs';
import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { TandemError } from '../common/errors.js';

const OTHERS = 0o077;
const GROUP_WRITES = 0o020;
const ALL_WRITE = 0o002;
const STICKY = 0o1000;
const SYSTEM = 0;
// Absent on Windows, whose directories of a user are closed to others by themselves.
const NO_LINK = constants.O_NOFOLLOW ?? 0;
const NO_WAIT = constants.O_NONBLOCK ?? 0;

/** A place that others can get at cannot keep a secret. */
export const unsafePlace = (path: string, found: string, cause?: unknown): TandemError =>
  new TandemError(
    'RUNTIME_DIRECTORY',
    `Expected "${path}" to be of this user alone, without links on the way to it, but ${found}; remove it, or set XDG_RUNTIME_DIR to a private directory.`,
    { cause },
  );

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error);

const ancestors = (path: string): readonly string[] => {
  const above = dirname(path);
  return above === path ? [] : [...ancestors(above), above];
};

const isOthers = ({ uid }: Stats): boolean =>
  process.getuid !== undefined && uid !== process.getuid() && uid !== SYSTEM;

const othersCanRename = ({ mode, gid }: Stats): boolean => {
  if ((mode & STICKY) !== 0) return false;
  const groupIsOthers = gid !== SYSTEM && gid !== process.getgid?.();
  return (mode & ALL_WRITE) !== 0 || ((mode & GROUP_WRITES) !== 0 && groupIsOthers);
};

const whyReplaceable = (stats: Stats): string | undefined => {
  if (stats.isSymbolicLink()) return 'is a link';
  if (!stats.isDirectory()) return 'is no directory';
  if (isOthers(stats)) return 'belongs to another user';
  return othersCanRename(stats) ? 'can be written to by others' : undefined;
};

/** Makes the directory where it is missing; what it is then is its caller's to look at. */
const lookOrMake = (path: string): Stats => {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found !== undefined) return found;
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw unsafePlace(path, `it cannot be made (${codeOf(error)})`, error);
  }
  return lstatSync(path);
};

const whyNotPrivate = (stats: Stats): string | undefined => {
  if (stats.isSymbolicLink()) return 'it is a link';
  if (!stats.isDirectory()) return 'it is no directory';
  if (process.getuid !== undefined && stats.uid !== process.getuid()) return 'it belongs to another user';
  const mode = stats.mode & 0o777;
  return process.platform !== 'win32' && (mode & OTHERS) !== 0 ? `its mode is 0${mode.toString(8)}` : undefined;
};

/**
 * Makes a directory of this user alone, with those above it that are missing, or makes sure that it is one.
 * @param directory absolute
 * @throws TandemError `RUNTIME_DIRECTORY`
 */
export const makePrivate = (directory: string): void => {
  for (const above of process.platform === 'win32' ? [] : ancestors(directory)) {
    const why = whyReplaceable(lookOrMake(above));
    if (why !== undefined) throw unsafePlace(directory, `"${above}" ${why}`);
  }
  if (process.platform === 'win32') mkdirSync(directory, { recursive: true });
  const why = whyNotPrivate(lookOrMake(directory));
  if (why !== undefined) throw unsafePlace(directory, why);
};

const whyNotOurs = (stats: Stats): string | undefined => {
  if (!stats.isFile()) return 'it is no file';
  if (process.getuid !== undefined && stats.uid !== process.getuid()) return 'it belongs to another user';
  if (stats.nlink > 1) return 'it has another name elsewhere';
  const mode = stats.mode & 0o777;
  return process.platform !== 'win32' && (mode & OTHERS) !== 0 ? `its mode is 0${mode.toString(8)}` : undefined;
};

const openChecked = (path: string, flags: number): number => {
  let fd: number;
  try {
    fd = openSync(path, flags | NO_LINK, 0o600);
  } catch (error) {
    if (codeOf(error) === 'ELOOP') throw unsafePlace(path, 'it is a link', error);
    throw error;
  }
  const why = whyNotOurs(fstatSync(fd));
  if (why === undefined) return fd;
  closeSync(fd);
  throw unsafePlace(path, why);
};

/**
 * Reads a file of a private directory.
 * @throws TandemError `RUNTIME_DIRECTORY`; a system error where there is none
 */
export const readPrivate = (path: string): string => {
  const fd = openChecked(path, constants.O_RDONLY | NO_WAIT);
  try {
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
};

/**
 * Opens an empty file of a private directory for writing at its end; it is looked at before anything in it is given up.
 * @returns its descriptor
 * @throws TandemError `RUNTIME_DIRECTORY`
 */
export const openPrivateLog = (path: string): number => {
  const fd = openChecked(path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND);
  ftruncateSync(fd, 0);
  return fd;
};
