/**
 * Prompt to token ids, in this thread: only `tokenizer-entry.ts` calls it, since a tokenizer's files hold expressions of their own, and
 * some take longer than any prompt is worth. Byte-pair encoding and unigrams are `@huggingface/tokenizers`; this file finds the tokenizer's files,
 * describes CLIP's tokenizer where an export has only its vocabulary and merges, and pads and truncates as
 * transformers does.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { TandemError } from '../../common/errors.js';
import { TOKENIZER_INVALID } from './errors.js';

/** A prompt as the text encoder takes it. */
export interface TokenizedPrompt {
  /** Start token, text, end token as far as the tokenizer has them, then padding. */
  readonly ids: readonly number[];
  /** 1 for tokens of the prompt, 0 for padding. */
  readonly attentionMask: readonly number[];
  /** The part of the prompt that did not fit and has no influence on the image. */
  readonly truncatedText?: string;
}

export interface TokenizeOptions {
  /** Longest number of tokens; the tokenizer's own where absent. */
  readonly length?: number;
  /** Whether to fill the prompt up to that length; true where absent. */
  readonly pad?: boolean;
}

/** A tokenizer in this thread. */
export interface LocalTokenizer {
  readonly modelMaxLength: number;
  tokenize(prompt: string, options?: TokenizeOptions): TokenizedPrompt;
}

const specialToken = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]);

const DEFAULT_LENGTH = 77;
/** transformers writes 1e30 for a tokenizer that was given no limit, which then is as good as not named. */
const MAX_LENGTH = 1_000_000;

/** Tokens that a tokenizer takes at most. */
export const modelMaxLength = z
  .number()
  .min(2)
  .default(DEFAULT_LENGTH)
  .transform((length) => (length > MAX_LENGTH ? DEFAULT_LENGTH : Math.floor(length)));

const tokenizerConfig = z.looseObject({
  model_max_length: modelMaxLength,
  pad_token: specialToken.nullish(),
  eos_token: specialToken.nullish(),
  bos_token: specialToken.nullish(),
  unk_token: specialToken.nullish(),
  added_tokens_decoder: z.looseObject({}).optional(),
});
type TokenizerConfig = z.infer<typeof tokenizerConfig>;

const specialTokensMap = z.looseObject({ pad_token: specialToken.nullish(), eos_token: specialToken.nullish() });

const START = '<|startoftext|>';
const END = '<|endoftext|>';

/** How CLIP splits text before its byte-pair merges (the GPT-2 scheme with single digits; arXiv 2103.00020, section 2.4). */
const CLIP_PATTERN = String.raw`<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;

const addedToken = (id: number, content: string) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

const vocabulary = z.record(z.string(), z.number().int().nonnegative());

const missingToken = (token: string): TandemError =>
  new TandemError(
    TOKENIZER_INVALID,
    `Expected the tokenizer's vocabulary to have ${token}, found none. Export the tokenizer again.`,
  );

const idIn = (vocab: Readonly<Record<string, number>>, token: string): number => {
  const id = vocab[token];
  if (id === undefined) throw missingToken(token);
  return id;
};

/** The tokenizer.json that a CLIP vocabulary and its merges stand for. */
const clipTokenizerJson = (
  vocab: Readonly<Record<string, number>>,
  merges: readonly string[],
  config: TokenizerConfig,
) => {
  const start = config.bos_token ?? START;
  const end = config.eos_token ?? END;
  const startId = idIn(vocab, start);
  const endId = idIn(vocab, end);
  return {
    added_tokens: [addedToken(startId, start), addedToken(endId, end)],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFC' },
        { type: 'Replace', pattern: { Regex: String.raw`\s+` }, content: ' ' },
        { type: 'Lowercase' },
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: CLIP_PATTERN }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: {
      type: 'RobertaProcessing',
      sep: [end, endId],
      cls: [start, startId],
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: config.unk_token ?? end,
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      vocab,
      merges,
    },
  };
};

/** Merges, one a line; the first line is a version comment, and blank ones are not merges. */
const parseMerges = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')));

const readOptional = async (path: string): Promise<string | undefined> => {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
};

const readTokenizerJson = async (directory: string, config: TokenizerConfig): Promise<object> => {
  const whole = await readOptional(join(directory, 'tokenizer.json'));
  if (whole !== undefined) return z.looseObject({ model: z.looseObject({}) }).parse(JSON.parse(whole));
  const vocab = vocabulary.parse(JSON.parse(await readFile(join(directory, 'vocab.json'), 'utf8')));
  return clipTokenizerJson(vocab, parseMerges(await readFile(join(directory, 'merges.txt'), 'utf8')), config);
};

/**
 * The token that fills a prompt up. special_tokens_map.json overrules tokenizer_config.json in files that were saved before
 * transformers wrote `added_tokens_decoder`; Stable Diffusion 2 depends on it (it pads with "!").
 */
const padTokenOf = async (directory: string, config: TokenizerConfig): Promise<string> => {
  const text = config.added_tokens_decoder ? undefined : await readOptional(join(directory, 'special_tokens_map.json'));
  const map = text === undefined ? {} : specialTokensMap.parse(JSON.parse(text));
  return map.pad_token ?? config.pad_token ?? config.eos_token ?? END;
};

const tokenId = (tokenizer: Tokenizer, token: string): number => {
  const id = tokenizer.token_to_id(token);
  if (id === undefined) throw missingToken(token);
  return id;
};

/** What a prompt ends with however much of it is cut off: the end token, where the tokenizer adds one. */
const endOf = (tokenizer: Tokenizer, config: TokenizerConfig): readonly number[] => {
  const last = tokenizer.encode('').ids.at(-1);
  return last !== undefined && last === tokenizer.token_to_id(config.eos_token ?? END) ? [last] : [];
};

/**
 * The end of a prompt from the first word that is not kept whole, in the prompt's own letters.
 * @param length tokens that are kept
 */
const restOf = (tokenizer: Tokenizer, prompt: string, length: number): string => {
  const starts = Array.from(prompt.matchAll(/\S+/g), ({ index }) => index);
  let [kept, cut] = [0, starts.length];
  while (cut - kept > 1) {
    const middle = (kept + cut) >> 1;
    const fits = tokenizer.encode(prompt.slice(0, starts[middle])).ids.length <= length;
    if (fits) kept = middle;
    else cut = middle;
  }
  return prompt.slice(starts[kept]).trim();
};

const addedTokens = z.looseObject({
  added_tokens: z.array(z.looseObject({ content: z.string() })).default([]),
  model: z.looseObject({ vocab: z.unknown() }),
});

/**
 * The tokenizer with its padding as a token that no merge takes apart, as transformers has it: to an encoder that is padded
 * with "!", the prompt's own exclamation marks are padding as well.
 */
const withPadding = (json: object, pad: string): object => {
  const parsed = addedTokens.parse(json);
  const vocab = vocabulary.safeParse(parsed.model.vocab);
  const id = vocab.success ? vocab.data[pad] : undefined;
  if (id === undefined || parsed.added_tokens.some(({ content }) => content === pad)) return json;
  return { ...parsed, added_tokens: [...parsed.added_tokens, addedToken(id, pad)] };
};

const load = async (directory: string, required: readonly string[]): Promise<LocalTokenizer> => {
  const config = tokenizerConfig.parse(JSON.parse(await readFile(join(directory, 'tokenizer_config.json'), 'utf8')));
  const padToken = await padTokenOf(directory, config);
  const tokenizer = new Tokenizer(withPadding(await readTokenizerJson(directory, config), padToken), config);
  for (const token of required) tokenId(tokenizer, token);
  const pad = tokenId(tokenizer, padToken);
  const end = endOf(tokenizer, config);
  return {
    modelMaxLength: config.model_max_length,
    tokenize(prompt, { length = config.model_max_length, pad: fill = true } = {}) {
      const { ids } = tokenizer.encode(prompt);
      const cut = length - end.length;
      const kept = ids.length > length ? [...ids.slice(0, cut), ...end] : ids;
      const padding = fill ? length - kept.length : 0;
      return {
        ids: [...kept, ...Array<number>(padding).fill(pad)],
        attentionMask: [...Array<number>(kept.length).fill(1), ...Array<number>(padding).fill(0)],
        ...(ids.length > length ? { truncatedText: restOf(tokenizer, prompt, length) } : {}),
      };
    },
  };
};

/**
 * Opens a tokenizer folder in this thread: tokenizer.json where there is one, else CLIP's vocab.json and merges.txt; with
 * tokenizer_config.json in both cases.
 * @param required tokens that the vocabulary must have
 * @throws TandemError `TOKENIZER_INVALID` when a file is missing or malformed, or a token is missing
 */
export const openLocalTokenizer = async (
  directory: string,
  required: readonly string[] = [],
): Promise<LocalTokenizer> => {
  try {
    return await load(directory, required);
  } catch (error) {
    if (error instanceof TandemError) throw error;
    const found = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new TandemError(
      TOKENIZER_INVALID,
      `Expected ${directory} to have tokenizer_config.json and either tokenizer.json or vocab.json with merges.txt, found: ${found}. Export the tokenizer again.`,
      { cause: error },
    );
  }
};
