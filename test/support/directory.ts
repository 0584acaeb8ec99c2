/** Directories of tests, each in the system's own place for such and gone afterwards. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const make = (): string => mkdtempSync(join(tmpdir(), 'tandem-test-'));

const remove = (path: string): void => rmSync(path, { recursive: true, force: true });

/** A fresh directory for all tests of a file; call it at the file's top. */
export const fileDirectory = (): string => {
  const path = make();
  afterAll(() => remove(path));
  return path;
};

/** Runs `work` with a fresh directory. */
export const withDirectory = async <T>(work: (directory: string) => Promise<T>): Promise<T> => {
  const path = make();
  try {
    return await work(path);
  } finally {
    remove(path);
  }
};
