/**
 * Groups one after the other, each with a part of the model: a run passes them on a given route, and while one group computes for one
 * run the others compute for others. What one part of the model makes for another passes through this process.
 */
import type { HostTensor, TensorSpec } from '../../common/tensor.js';
import type { RankStep, StepOptions, Workers } from '../cluster/index.js';
import type { Inputs, PartsResult, Way } from './mesh.js';

/** A visit of a run to a group. */
export interface Visit {
  readonly part: number;
  readonly network: string;
  /** Names. */
  readonly inputs: readonly string[];
}

const pick = (values: ReadonlyMap<string, HostTensor>, names: readonly string[]): Inputs =>
  Object.fromEntries(
    names.flatMap((name) => {
      const value = values.get(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );

/** Drops what no later visit reads, and is no result. */
const release = (values: Map<string, HostTensor>, later: readonly Visit[], outputs: ReadonlySet<string>): void => {
  const read = new Set(later.flatMap(({ inputs }) => inputs));
  for (const name of values.keys()) if (!read.has(name) && !outputs.has(name)) values.delete(name);
};

interface Run {
  readonly outputs: Record<string, HostTensor>;
  readonly ranks: readonly { readonly part: number; readonly ranks: readonly RankStep[] }[];
}

const runThrough = async (
  parts: readonly Workers[],
  route: readonly Visit[],
  names: ReadonlySet<string>,
  inputs: Inputs,
  options: StepOptions,
): Promise<Run> => {
  const values = new Map(Object.entries(inputs));
  const ranks: { part: number; ranks: readonly RankStep[] }[] = [];
  for (const [place, { part, network, inputs: read }] of route.entries()) {
    const done = await parts[part]?.step([pick(values, read)], { ...options, network });
    for (const [name, value] of Object.entries(done?.outputs[0] ?? {})) values.set(name, value);
    ranks.push({ part, ranks: done?.ranks ?? [] });
    release(values, route.slice(place + 1), names);
  }
  return { outputs: { ...pick(values, [...names]) }, ranks };
};

/** @param outputs of the last part that has them */
export const inStages = (
  route: readonly Visit[],
  inputs: readonly TensorSpec[],
  outputs: readonly TensorSpec[],
): Way => {
  const names = new Set(outputs.map(({ name }) => name));
  return {
    inputs,
    outputs,
    async step(parts, runs, options): Promise<PartsResult> {
      const done = await Promise.all(runs.map((run) => runThrough(parts, route, names, run, options)));
      return { outputs: done.map((run) => run.outputs), ranks: done.flatMap(({ ranks }) => ranks) };
    },
  };
};
