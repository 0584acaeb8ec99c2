/**
 * Groups side by side, each with all of the model: every run goes to the one that has least to do. Where the two
 * passes of guidance are runs of their own, two idle groups take one each; where many pictures are made at once, all are busy.
 */
import type { Workers } from '../cluster/index.js';
import type { Inputs, PartsResult, Way } from './mesh.js';

/** A part that is being brought back takes nothing as long as another one can. */
const BUSY_RUNS = 1_000_000;

export const sideBySide = (network: Pick<Way, 'inputs' | 'outputs'>): Way => {
  /** Runs that each part has to do. */
  const loads: number[] = [];
  const add = (part: number, runs: number): void => {
    loads[part] = (loads[part] ?? 0) + runs;
  };

  /** Takes a place at the part with least to do. */
  const choose = (parts: readonly Workers[]): number => {
    const ahead = parts.map(({ state }, part) => (loads[part] ?? 0) + (state === 'ready' ? 0 : BUSY_RUNS));
    const part = ahead.indexOf(Math.min(...ahead));
    add(part, 1);
    return part;
  };

  const runOn = async (
    parts: readonly Workers[],
    part: number,
    runs: readonly Inputs[],
    options: Parameters<Way['step']>[2],
  ) => {
    try {
      return { part, result: await parts[part]?.step(runs, options) };
    } finally {
      add(part, -runs.length);
    }
  };

  const everywhere = async (...[parts, runs, options]: Parameters<Way['step']>): Promise<PartsResult> => {
    const all = await Promise.all(
      parts.map((_, part) => {
        add(part, runs.length);
        return runOn(parts, part, runs, options);
      }),
    );
    const ranks = all.map(({ part, result }) => ({ part, ranks: result?.ranks ?? [] }));
    return { outputs: all[0]?.result?.outputs ?? [], ranks };
  };

  return {
    inputs: network.inputs,
    outputs: network.outputs,
    async step(parts, runs, options) {
      if (options.everywhere) return everywhere(parts, runs, options);
      const chosen = runs.map(() => choose(parts));
      const used = [...new Set(chosen)];
      const results = await Promise.all(
        used.map((part) =>
          runOn(
            parts,
            part,
            runs.filter((_, run) => chosen[run] === part),
            options,
          ),
        ),
      );
      const outputs = new Map(results.map(({ part, result }) => [part, [...(result?.outputs ?? [])]]));
      return {
        outputs: chosen.map((part) => outputs.get(part)?.shift() ?? {}),
        ranks: results.map(({ part, result }) => ({ part, ranks: result?.ranks ?? [] })),
      };
    },
  };
};
