/** A random graph whole and split, and what is wrong with the difference. */
import { runSmallModel } from '../small-model.js';
import { type Choice, toModel } from './graphs.js';

const TOLERANCE = 1e-4;

/** Undefined where the split graph gives what the whole one gives. */
export const whatIsWrong = async (list: readonly Choice[], ranks: readonly number[]): Promise<string | undefined> => {
  const model = toModel(list);
  const describe = () => model.nodes.map(({ op, inputs, outputs }) => `${outputs} = ${op}(${inputs})`).join('\n');
  try {
    const { error } = await runSmallModel(model, ranks);
    return error <= TOLERANCE ? undefined : `The ranks differ by ${error} of the largest value:\n${describe()}`;
  } catch (error) {
    return `${String(error)}\n${describe()}`;
  }
};
