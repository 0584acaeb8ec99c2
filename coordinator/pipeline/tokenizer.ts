/**
 * Prompt to token ids, as callers have it. A tokenizer's files hold regular expressions, which may take longer than the age of the
 * world for a prompt of a line: they run in a thread of their own, which is ended when its time is up.
 */
import { Piscina } from 'piscina';
import { type Answer, unwrap } from '../../common/answer.js';
import { TandemError } from '../../common/errors.js';
import { TOKENIZER_INVALID } from './errors.js';
import type { TokenizedPrompt, TokenizeOptions } from './tokenizer-local.js';

export type { TokenizedPrompt, TokenizeOptions } from './tokenizer-local.js';

export interface PromptTokenizer {
  readonly modelMaxLength: number;
  /** @throws TandemError `TOKENIZER_INVALID` where the tokenizer does not come to an end */
  tokenize(prompt: string, options?: TokenizeOptions): Promise<TokenizedPrompt>;
}

export interface TokenizerTask {
  /** Of the tokenizer that was opened. */
  readonly id: string;
  readonly directory: string;
  readonly required: readonly string[];
  /** Absent: it is only opened. */
  readonly prompt?: string;
  readonly options?: TokenizeOptions;
}

export interface TokenizerResult {
  readonly modelMaxLength: number;
  /** Of the prompt, where there is one. */
  readonly tokens?: TokenizedPrompt;
}

/** Files of 17 MB open in a second; a prompt of a page takes milliseconds. */
const OPEN_MS = 60_000;
const PROMPT_MS = 5_000;
const PATIENCE = 12;
const LOOK_MS = 100;
/** A thread that nobody needs costs memory; the next prompt starts it again. */
const IDLE_MS = 60_000;

let threads: Piscina<TokenizerTask, Answer<TokenizerResult>> | undefined;
let count = 0;

const thread = (): Piscina<TokenizerTask, Answer<TokenizerResult>> => {
  threads ??= new Piscina<TokenizerTask, Answer<TokenizerResult>>({
    filename: new URL('./tokenizer-entry.js', import.meta.url).href,
    minThreads: 0,
    maxThreads: 1,
    idleTimeout: IDLE_MS,
  });
  return threads;
};

const endless = (directory: string, doing: string, ms: number): TandemError =>
  new TandemError(
    TOKENIZER_INVALID,
    `Expected the tokenizer in ${directory} to ${doing} within ${ms / 1000} s, found it still at it, and ended it; its files hold an expression that takes too long. Export the tokenizer again.`,
  );

const processorMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/**
 * Fires after `ms` in which this process also had as much of the processor: a prompt that waits for a busy machine is not the
 * tokenizer's fault. At the latest after twelve times as long.
 */
const deadline = (ms: number): { readonly signal: AbortSignal; clear(): void } => {
  const controller = new AbortController();
  const [begun, had] = [performance.now(), processorMs()];
  const timer = setInterval(() => {
    const waited = performance.now() - begun;
    if (waited >= ms * PATIENCE || (waited >= ms && processorMs() - had >= ms)) controller.abort();
  }, LOOK_MS);
  return { signal: controller.signal, clear: () => clearInterval(timer) };
};

const perform = async (task: TokenizerTask, doing: string, ms: number): Promise<TokenizerResult> => {
  const { signal, clear } = deadline(ms);
  const result = await thread()
    .run(task, { signal })
    .catch((cause: unknown) => {
      if (signal.aborted) throw endless(task.directory, doing, ms);
      throw new TandemError(TOKENIZER_INVALID, `The tokenizer in ${task.directory} ended its thread.`, { cause });
    })
    .finally(clear);
  return unwrap(result);
};

/**
 * Opens a tokenizer folder: tokenizer.json where there is one, else CLIP's vocab.json and merges.txt; with
 * tokenizer_config.json in both cases.
 * @param required tokens that the vocabulary must have
 * @throws TandemError `TOKENIZER_INVALID` when a file is missing or malformed, a token is missing, or it takes too long
 */
export const openTokenizer = async (directory: string, required: readonly string[] = []): Promise<PromptTokenizer> => {
  count += 1;
  const given = { id: String(count), directory, required };
  const { modelMaxLength } = await perform(given, 'open', OPEN_MS);
  return {
    modelMaxLength,
    async tokenize(prompt, options = {}) {
      const { tokens } = await perform({ ...given, prompt, options }, 'read a prompt', PROMPT_MS);
      if (tokens) return tokens;
      throw new TandemError(TOKENIZER_INVALID, `Expected tokens from the tokenizer in ${directory}, found none.`);
    },
  };
};
