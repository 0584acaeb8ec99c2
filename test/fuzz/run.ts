/** Hands inputs to a target and keeps those that something unforeseen came of. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { TandemError } from '#tandem/common/errors.js';
import { makeScratch, TARGETS, type Target, type TargetName } from './targets.js';

const CORPUS = fileURLToPath(new URL('./corpus', import.meta.url));
const LIMIT_MS = 2000;

/** An input that something unforeseen came of, once. */
export interface Kept {
  readonly target: TargetName;
  readonly input: unknown;
  /** What came of it. */
  readonly found: string;
}

export const corpus = (): readonly Kept[] =>
  readdirSync(CORPUS).map((name) => JSON.parse(readFileSync(join(CORPUS, name), 'utf8')));

const keep = (kept: Kept): void => {
  const text = `${JSON.stringify(kept, undefined, 1)}\n`;
  const name = createHash('sha256').update(JSON.stringify(kept.input)).digest('hex').slice(0, 12);
  writeFileSync(join(CORPUS, `${kept.target}-${name}.json`), text);
};

const problemOf = async (name: TargetName, input: unknown, scratch: string): Promise<string | undefined> => {
  const target: Target = TARGETS[name];
  const start = performance.now();
  try {
    await target.take(input as never, scratch);
  } catch (error) {
    if (!(error instanceof TandemError))
      return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
  const ms = performance.now() - start;
  return ms > LIMIT_MS ? `took ${Math.round(ms)} ms` : undefined;
};

/** Whether an input that was kept is harmless now; says what came of it where it is not. */
export const retry = async ({ target, input }: Kept): Promise<string | undefined> => {
  const scratch = makeScratch();
  try {
    return await problemOf(target, input, scratch.path);
  } finally {
    scratch.remove();
  }
};

/**
 * Tries `runs` inputs of a target.
 * @param seed the same inputs for the same seed; from the clock where absent
 * @throws Error with the smallest input that something unforeseen came of, which is kept
 */
export const fuzz = async (name: TargetName, runs: number, seed?: number): Promise<void> => {
  const scratch = makeScratch();
  const property = fc.asyncProperty(TARGETS[name].inputs as fc.Arbitrary<unknown>, async (input) => {
    const problem = await problemOf(name, input, scratch.path);
    if (problem !== undefined) throw new Error(problem);
  });
  try {
    const result = await fc.check(property, { numRuns: runs, ...(seed === undefined ? {} : { seed }) });
    if (!result.failed) return;
    const [input] = result.counterexample ?? [];
    const found = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance);
    keep({ target: name, input, found });
    throw new Error(`${name}, seed ${result.seed}: ${found}; the input is kept in test/fuzz/corpus.`);
  } finally {
    scratch.remove();
  }
};
