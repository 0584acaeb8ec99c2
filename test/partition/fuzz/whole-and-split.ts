/** A random graph whole and split: what is wrong with the difference, and whether there was anything to split. */
import { compareOutputs } from '#tandem/common/compare.js';
import { TandemError } from '#tandem/common/errors.js';
import { openSession } from '#tandem/common/onnxruntime.js';
import type { HostTensor } from '#tandem/common/tensor.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { runInMemory } from '../in-memory.js';
import { runSmallModel, type SmallModel, writeSmallModel } from '../small-model.js';
import { inDirectory, planGraph, readGraph } from '../stages.js';
import { type Choice, toModel } from './graphs.js';

const TOLERANCE = 1e-4;

export interface Verdict {
  /** Undefined where the split graph gives what the whole one gives. */
  readonly wrong?: string;
  /** Whether the ranks exchanged anything. */
  readonly isSplit: boolean;
  /** Squares of squares overflow in the whole graph already, which proves nothing. */
  readonly overflows?: true;
}

/** Runs a graph on ranks. `error` is max |a - b| / max |b| over all outputs and ranks. */
export type RunSplit = (
  model: SmallModel,
  ranks: readonly number[],
) => Promise<{ readonly error: number; readonly segments: number }>;

/** As users do it: a shard directory, read by the worker's own ranks over real sockets. */
export const throughShards: RunSplit = async (model, ranks) => {
  const { error, manifest } = await runSmallModel(model, ranks);
  return { error, segments: manifest.profiles[0]?.ranks[0]?.segments.length ?? 0 };
};

const runWhole = async (path: string, inputs: Readonly<Record<string, HostTensor>>) => {
  const session = await openSession(path, { provider: 'cpu', optimization: 'disabled', threads: 1 });
  try {
    return await session.run(inputs);
  } finally {
    await session.dispose();
  }
};

/** The same plan and the same graphs without files and sockets, for thousands. */
export const inMemory: RunSplit = (model, ranks) =>
  inDirectory(async (directory) => {
    const path = writeSmallModel(directory, model);
    const { programs } = planGraph(await readGraph(path), ranks);
    const shapes = Object.entries(model.inputs).map(([name, shape]) => ({
      name,
      dtype: 'float32' as const,
      shape: shape.map(Number),
    }));
    const inputs = randomInputs(shapes, 7);
    const expected = await runWhole(path, inputs);
    const outputs = await runInMemory(programs, inputs);
    const errors = outputs.map((one) => compareOutputs(one, expected).max_rel_error);
    return { error: Math.max(...errors), segments: programs[0]?.segments.length ?? 0 };
  });

export const compareSplit = async (
  list: readonly Choice[],
  ranks: readonly number[],
  run: RunSplit,
): Promise<Verdict> => {
  const model = toModel(list);
  const describe = () => model.nodes.map(({ op, inputs, outputs }) => `${outputs} = ${op}(${inputs})`).join('\n');
  try {
    const { error, segments } = await run(model, ranks);
    const isSplit = segments > 1;
    if (error <= TOLERANCE) return { isSplit };
    return { isSplit, wrong: `The ranks differ by ${error} of the largest value:\n${describe()}` };
  } catch (error) {
    if (error instanceof TandemError && error.code === 'REFERENCE_NOT_FINITE')
      return { isSplit: false, overflows: true };
    return { isSplit: false, wrong: `${String(error)}\n${describe()}` };
  }
};
