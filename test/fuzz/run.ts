/** Hands inputs to a target and keeps those that something unforeseen came of. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { TandemError } from '#tandem/common/errors.js';
import { AHEAD, closeHttp, httpAnswers, openHttp } from './http-target.js';
import { makeScratch, TARGETS, type Target, type TargetName } from './targets.js';

const CORPUS = fileURLToPath(new URL('./corpus', import.meta.url));
const LIMIT_MS = 2000;
const NEVER_MS = 120_000;
/** Requests, frames or files in one input. */
const SIZES: Readonly<Record<TargetName, number>> = {
  configs: 1,
  'model-directories': 1,
  frames: 1,
  'onnx-files': 1,
  http: AHEAD,
};
/** What a target needs first, which is not the first input's time. */
const OPENERS: Readonly<Partial<Record<TargetName, () => Promise<unknown>>>> = { http: openHttp };
/** What a target leaves open. */
const CLOSERS: Readonly<Partial<Record<TargetName, () => Promise<void>>>> = { http: closeHttp };

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

const processorMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

type Come = { readonly ms: number; readonly problem?: string };

/** What comes of an input. Time is the processor's: a busy machine is not the input's fault, though whatever never ends is. */
const tryOne = async (name: TargetName, input: unknown, scratch: string): Promise<Come> => {
  const target: Target = TARGETS[name];
  const start = processorMs();
  const never = new AbortController();
  const hang = delay(NEVER_MS, 'never ended', { signal: never.signal, ref: false }).catch(() => undefined);
  const taken = Promise.resolve()
    .then(() => target.take(input as never, scratch))
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  const error: unknown = await Promise.race([taken, hang]);
  never.abort();
  const ms = processorMs() - start;
  if (error !== undefined && !(error instanceof TandemError))
    return { ms, problem: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
  return ms > LIMIT_MS ? { ms, problem: `took ${Math.round(ms)} ms` } : { ms };
};

/** Whether an input that was kept is harmless now; says what came of it where it is not. */
export const retry = async ({ target, input }: Kept): Promise<string | undefined> => {
  const scratch = makeScratch();
  await OPENERS[target]?.();
  try {
    return (await tryOne(target, input, scratch.path)).problem;
  } finally {
    scratch.remove();
  }
};

/** What a run of a target has come to so far. */
export class Tally {
  readonly name: TargetName;
  readonly problems: string[] = [];
  tried = 0;
  slowestMs = 0;

  constructor(name: TargetName) {
    this.name = name;
  }

  get line(): string {
    const { tried, problems, slowestMs } = this;
    const count = (pattern: RegExp): number => problems.filter((problem) => pattern.test(problem)).length;
    const [hangs, fives] = [count(/^(took|never)/), count(/answer of 500/)];
    return `${this.name}: ${tried * SIZES[this.name]} tried, ${problems.length - hangs - fives} crashes, ${hangs} over 2 s, ${fives} answers of 500; slowest ${Math.round(slowestMs)} ms of the processor${this.name === 'http' ? `; answers ${httpAnswers()}` : ''}`;
  }
}

/** As many as are tried between two looks at the clock. */
const CHUNK = 500;
const TELL_MS = 60_000;

const tryChunk = async (tally: Tally, runs: number, scratch: string, seed: number): Promise<void> => {
  const { name } = tally;
  const property = fc.asyncProperty(TARGETS[name].inputs as fc.Arbitrary<unknown>, async (input) => {
    const { ms, problem } = await tryOne(name, input, scratch);
    tally.tried += 1;
    tally.slowestMs = Math.max(tally.slowestMs, ms);
    if (problem !== undefined) throw new Error(problem);
  });
  const result = await fc.check(property, { numRuns: runs, seed });
  if (!result.failed) return;
  const [input] = result.counterexample ?? [];
  const found = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance);
  keep({ target: name, input, found });
  tally.problems.push(found);
};

/**
 * Tries `runs` inputs of a target; an input that something unforeseen came of is made as small as it will go, and kept.
 * @param seed the same inputs for the same seed; from the clock where absent
 * @param tell called with what it has come to, now and then and at the end
 * @throws Error with all that was found
 */
export const fuzz = async (
  name: TargetName,
  runs: number,
  seed = Date.now() | 0,
  tell: (line: string) => void = () => undefined,
): Promise<void> => {
  const scratch = makeScratch();
  const tally = new Tally(name);
  const inputs = Math.ceil(runs / SIZES[name]);
  let told = performance.now();
  await OPENERS[name]?.();
  try {
    for (let chunk = 0; tally.tried < inputs; chunk++) {
      await tryChunk(tally, Math.min(CHUNK, inputs - tally.tried), scratch.path, seed + chunk);
      if (performance.now() - told < TELL_MS) continue;
      told = performance.now();
      tell(tally.line);
    }
  } finally {
    scratch.remove();
    await CLOSERS[name]?.();
  }
  tell(tally.line);
  if (tally.problems.length === 0) return;
  throw new Error(`${name}, from seed ${seed}: ${tally.problems.join('; ')}. Inputs are kept in test/fuzz/corpus.`);
};
