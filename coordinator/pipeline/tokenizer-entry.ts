/** The inside of the tokenizer thread: opens tokenizers and asks them, where a blocked thread hurts nobody and can be ended. */
import { TandemError } from '../../common/errors.js';
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

/** Piscina's entry point: one task in, one result out. */
export default async (task: TokenizerTask): Promise<TokenizerResult> => {
  try {
    const tokenizer = await tokenizerOf(task);
    if (task.prompt === undefined) return { kind: 'opened', modelMaxLength: tokenizer.modelMaxLength };
    return { kind: 'tokenized', tokens: tokenizer.tokenize(task.prompt, task.options) };
  } catch (error) {
    const { message } = error as Error;
    const code = error instanceof TandemError ? error.code : undefined;
    return { kind: 'failed', message, ...(code === undefined ? {} : { code }) };
  }
};
