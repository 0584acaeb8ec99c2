/** What the operating system refuses, in words: paths, disks and limits fail wherever they are used, and are told in one place. */
import { TandemError } from './errors.js';

const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: 'this user may not do that there; change the permissions or choose another place',
  EPERM: 'this user may not do that there; change the permissions or choose another place',
  EROFS: 'the file system is read-only; choose another place',
  ENOENT: 'there is nothing at that path; name another, or make it',
  ENOTDIR: 'part of the path is a file; name another place',
  EISDIR: 'a directory is there; name a file',
  EEXIST: 'something else is there already; name another place',
  ELOOP: 'the path goes through links that lead in a circle; mend them or name another place',
  ENAMETOOLONG: 'the path is too long; choose a shorter one',
  ENOSPC: 'the disk is full; free some space, or set TMPDIR or the directory named to one on another disk',
  EDQUOT: 'the disk quota is used up; free some space or choose another place',
  EFBIG: 'the file would be larger than this process may write (ulimit -f) or the file system can hold',
  EIO: 'the disk failed to read or write; look at its health, or choose another place',
  EMFILE: 'this process may not open more files; raise its limit (ulimit -n)',
  ENFILE: 'the system has too many files open; close some programs',
  ENOMEM: 'the system gives no more memory; raise the limit (ulimit -v), or use a smaller model or fewer workers',
  EAGAIN: 'the system gives no more processes or threads; raise the limit (ulimit -u)',
};

const field = (error: Error, name: string): string | undefined => {
  const value: unknown = Reflect.get(error, name);
  return typeof value === 'string' ? value : undefined;
};

/** An error of the system as one that says what to do; undefined for those that are none, or that nothing is known of. */
export const systemError = (error: unknown): TandemError | undefined => {
  if (!(error instanceof Error) || error instanceof TandemError) return undefined;
  if (error instanceof RangeError && /memory|allocation failed/i.test(error.message))
    return new TandemError('SYSTEM_MEMORY', `Expected memory for what is asked, but ${REMEDIES.ENOMEM}.`, {
      cause: error,
    });
  const code = field(error, 'code');
  const remedy = code === undefined ? undefined : REMEDIES[code];
  if (code === undefined || remedy === undefined) return undefined;
  const path = field(error, 'path');
  const what = path === undefined ? (field(error, 'syscall') ?? 'a system call') : `"${path}"`;
  return new TandemError('SYSTEM_REFUSED', `The system refused ${what} (${code}): ${remedy}.`, { cause: error });
};
