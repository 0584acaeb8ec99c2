/**
 * Small facts that are slow to find out, each in a file of its own from one process to the next. One is good for one key, which
 * names all that it depends on; what does not match, or cannot be read, is found out again.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';

/** Where derived data belongs that every clone and config can share. */
export const userCache = (): string => {
  const cache =
    process.env.XDG_CACHE_HOME ??
    (process.platform === 'win32' ? process.env.LOCALAPPDATA : undefined) ??
    (process.platform === 'darwin' ? join(homedir(), 'Library', 'Caches') : join(homedir(), '.cache'));
  return join(cache, 'tandem');
};

/** What a file remembers for this key; undefined where that is nothing. */
export const recall = <T>(path: string, key: string, schema: z.ZodType<T>): T | undefined => {
  try {
    return z.object({ key: z.literal(key), value: schema }).parse(JSON.parse(readFileSync(path, 'utf8'))).value;
  } catch {
    return undefined;
  }
};

/** Remembers a value in place of the one before. Where nothing can be written, it is found out again every time. */
export const remember = (path: string, key: string, value: unknown): void => {
  const temporary = `${path}.${process.pid}`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, JSON.stringify({ key, value }));
    renameSync(temporary, path);
  } catch {
    // A cache may be read-only.
  }
};
