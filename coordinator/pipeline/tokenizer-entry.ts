/** The inside of the tokenizer thread: opens tokenizers and asks them, where a blocked thread hurts nobody and can be ended. */
import { type Answer, answer } from '../../common/answer.js';
import type { TokenizerResult, TokenizerTask } from './tokenizer.js';
import { type LocalTokenizer, openLocalTokenizer } from './tokenizer-local.js';

/** More than any server has open: of two versions of a model with three tokenizers each. */
const KEPT = 12;

const opened = new Map<string, Promise<LocalTokenizer>>();

/** Opened again where this thread took the place of one that was ended, or has opened many others since. */
const tokenizerOf = ({ id, directory, required }: TokenizerTask): Promise<LocalTokenizer> => {
  const found = opened.get(id) ?? openLocalTokenizer(directory, required);
  opened.delete(id);
  opened.set(id, found);
  const [oldest] = opened.keys();
  if (opened.size > KEPT && oldest !== undefined) opened.delete(oldest);
  return found;
};

/** Piscina's entry point: one task in, one answer out. */
export default (task: TokenizerTask): Promise<Answer<TokenizerResult>> =>
  answer(async () => {
    const tokenizer = await tokenizerOf(task);
    const { modelMaxLength } = tokenizer;
    if (task.prompt === undefined) return { modelMaxLength };
    return { modelMaxLength, tokens: tokenizer.tokenize(task.prompt, task.options) };
  });
