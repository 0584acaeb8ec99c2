/** Directories of tests, each in the system's own place for such and gone afterwards. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, onTestFinished } from 'vitest';

export interface Directory {
  readonly path: string;
  remove(): void;
}

/** A fresh directory for those who know best when it may go. */
export const makeDirectory = (): Directory => {
  const path = mkdtempSync(join(tmpdir(), 'tandem-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
};

/** A fresh directory for all tests of a file; call it at the file's top. */
export const fileDirectory = (): string => {
  const { path, remove } = makeDirectory();
  afterAll(remove);
  return path;
};

/** A fresh directory for the test that runs. */
export const testDirectory = (): string => {
  const { path, remove } = makeDirectory();
  onTestFinished(remove);
  return path;
};

/** Runs `work` with a fresh directory. */
export const withDirectory = async <T>(work: (directory: string) => Promise<T>): Promise<T> => {
  const { path, remove } = makeDirectory();
  try {
    return await work(path);
  } finally {
    remove();
  }
};
