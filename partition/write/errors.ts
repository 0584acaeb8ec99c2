/** Failed writes, in words. */
import { type ErrorCode, TandemError } from '../../common/errors.js';

const REASONS: Readonly<Record<string, readonly [code: ErrorCode, reason: string]>> = {
  ENOSPC: ['WRITE_DISK_FULL', 'the disk is full; free some space or choose another directory'],
  EDQUOT: ['WRITE_DISK_FULL', 'the disk quota is used up; free some space or choose another directory'],
  EFBIG: [
    'WRITE_DISK_FULL',
    'the file is larger than the file system or the process may have; choose another directory',
  ],
  EACCES: ['WRITE_DENIED', 'this user may not write there; choose another directory or change its permissions'],
  EPERM: ['WRITE_DENIED', 'this user may not write there; choose another directory or change its permissions'],
  EROFS: ['WRITE_DENIED', 'the file system is read-only; choose another directory'],
  EEXIST: ['WRITE_DENIED', 'part of the path is a file; choose another directory'],
  ENOTDIR: ['WRITE_DENIED', 'part of the path is a file; choose another directory'],
};

/** Turns a system error of writing `path` into one that says what to do; other errors pass. */
export const writeError = (path: string, error: unknown): unknown => {
  if (error instanceof TandemError || !(error instanceof Error)) return error;
  // A cancelled wait has a code as well, a number.
  if (!('code' in error) || typeof error.code !== 'string') return error;
  const [code, reason] = REASONS[error.code] ?? [
    'WRITE_FAILED',
    `the system said: ${error.message}; choose another directory`,
  ];
  return new TandemError(code, `"${path}" cannot be written: ${reason}.`, { cause: error });
};

/**
 * The disk has too little room for a shard directory.
 * @param needed bytes
 * @param free bytes
 */
export const diskFull = (path: string, needed: number, free: number): TandemError =>
  new TandemError(
    'WRITE_DISK_FULL',
    `"${path}" needs ${needed} bytes, but its disk has only ${free} free; free some space or choose another directory.`,
  );
