/**
 * Groups side by side, each with all of the model: every run goes to the one that has least to do. Where the two
 * passes of guidance are runs of their own, two idle groups take one each; where many pictures are made at once, all are busy.
 */
import type { Workers } from '../cluster/index.js';
import type { Inputs, PartsResult, Way } from './mesh.js';

/** A part that is being brought back takes nothing as long as another one can. */
const BUSY_RUNS = 1_000_000;

type Options = Parameters<Way['step']>[2];

/** What one part made of the runs that it was given. */
interface PartDone extends Pick<PartsResult, 'outputs'> {
  readonly part: number;
  readonly ranks: PartsResult['ranks'][number]['ranks'];
}

/** How many runs each part has to do. */
class Loads {
  readonly #runs: number[] = [];

  add(part: number, runs: number): void {
    this.#runs[part] = (this.#runs[part] ?? 0) + runs;
  }

  /** Takes a place at the part with least to do. */
  choose(parts: readonly Workers[]): number {
    const ahead = parts.map(({ state }, part) => (this.#runs[part] ?? 0) + (state === 'ready' ? 0 : BUSY_RUNS));
    const part = ahead.indexOf(Math.min(...ahead));
    this.add(part, 1);
    return part;
  }
}

/** Runs on a part what it has a place for already. */
const runOn = async (
  parts: readonly Workers[],
  part: number,
  runs: readonly Inputs[],
  options: Options,
  loads: Loads,
) => {
  try {
    const result = await parts[part]?.step(runs, options);
    return { part, outputs: result?.outputs ?? [], ranks: result?.ranks ?? [] } satisfies PartDone;
  } finally {
    loads.add(part, -runs.length);
  }
};

const ranksOf = (done: readonly PartDone[]): PartsResult['ranks'] => done.map(({ part, ranks }) => ({ part, ranks }));

/** All runs on all parts: the first one's outputs count. */
const everywhere = async (parts: readonly Workers[], runs: readonly Inputs[], options: Options, loads: Loads) => {
  const done = await Promise.all(
    parts.map((_, part) => {
      loads.add(part, runs.length);
      return runOn(parts, part, runs, options, loads);
    }),
  );
  return { outputs: done[0]?.outputs ?? [], ranks: ranksOf(done) };
};

/** Each run on one part; those of a part go together. */
const shared = async (parts: readonly Workers[], runs: readonly Inputs[], options: Options, loads: Loads) => {
  const chosen = runs.map(() => loads.choose(parts));
  const ofPart = (part: number) => runs.filter((_, run) => chosen[run] === part);
  const done = await Promise.all([...new Set(chosen)].map((part) => runOn(parts, part, ofPart(part), options, loads)));
  const outputs = new Map(done.map((one) => [one.part, [...one.outputs]]));
  return { outputs: chosen.map((part) => outputs.get(part)?.shift() ?? {}), ranks: ranksOf(done) };
};

export const sideBySide = ({ inputs, outputs }: Pick<Way, 'inputs' | 'outputs'>): Way => {
  const loads = new Loads();
  return {
    inputs,
    outputs,
    step: (parts, runs, options) => (options.everywhere ? everywhere : shared)(parts, runs, options, loads),
  };
};
