/** A random graph whole and split: what is wrong with the difference, and whether there was anything to split. */
import { runSmallModel } from '../small-model.js';
import { type Choice, toModel } from './graphs.js';

const TOLERANCE = 1e-4;

export interface Verdict {
  /** Undefined where the split graph gives what the whole one gives. */
  readonly wrong?: string;
  /** Whether the ranks exchanged anything. */
  readonly isSplit: boolean;
}

export const compareSplit = async (list: readonly Choice[], ranks: readonly number[]): Promise<Verdict> => {
  const model = toModel(list);
  const describe = () => model.nodes.map(({ op, inputs, outputs }) => `${outputs} = ${op}(${inputs})`).join('\n');
  try {
    const { error, manifest } = await runSmallModel(model, ranks);
    const isSplit = (manifest.profiles[0]?.ranks[0]?.segments.length ?? 0) > 1;
    if (error <= TOLERANCE) return { isSplit };
    return { isSplit, wrong: `The ranks differ by ${error} of the largest value:\n${describe()}` };
  } catch (error) {
    return { isSplit: false, wrong: `${String(error)}\n${describe()}` };
  }
};
