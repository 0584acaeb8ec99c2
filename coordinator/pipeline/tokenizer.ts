/**
 * Prompt to token ids. The byte-pair encoding is `@huggingface/tokenizers`; this file finds the tokenizer's files,
 * describes CLIP's tokenizer where an export has only its vocabulary and merges, and pads and truncates as
 * `CLIPTokenizer` does in transformers.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { TandemError } from '../../partition/errors.js';
import { TOKENIZER_INVALID } from './errors.js';

/** A prompt as the text encoder takes it. */
export interface TokenizedPrompt {
  /** `[modelMaxLength]`: start token, text, end token, padding. */
  readonly ids: readonly number[];
  /** `[modelMaxLength]`: 1 for tokens of the prompt, 0 for padding. */
  readonly attentionMask: readonly number[];
  /** The part of the prompt that did not fit and has no influence on the image. */
  readonly truncatedText?: string;
}

export interface PromptTokenizer {
  readonly modelMaxLength: number;
  tokenize(prompt: string): TokenizedPrompt;
}

const specialToken = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]);

const tokenizerConfig = z.looseObject({
  model_max_length: z.number().int().min(2).max(100_000).default(77),
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

const idIn = (vocab: Readonly<Record<string, number>>, token: string): number => {
  const id = vocab[token];
  if (id === undefined)
    throw new TandemError(
      TOKENIZER_INVALID,
      `Expected the tokenizer's vocabulary to have ${token}, found none. Export the tokenizer again.`,
    );
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

const tokenId = (bpe: BpeTokenizer, token: string): number => {
  const id = bpe.token_to_id(token);
  if (id === undefined)
    throw new TandemError(
      TOKENIZER_INVALID,
      `Expected the tokenizer's vocabulary to have ${token}, found none. Export the tokenizer again.`,
    );
  return id;
};

const load = async (directory: string): Promise<PromptTokenizer> => {
  const config = tokenizerConfig.parse(JSON.parse(await readFile(join(directory, 'tokenizer_config.json'), 'utf8')));
  const bpe = new BpeTokenizer(await readTokenizerJson(directory, config), config);
  const pad = tokenId(bpe, await padTokenOf(directory, config));
  const end = tokenId(bpe, config.eos_token ?? END);
  const length = config.model_max_length;
  return {
    modelMaxLength: length,
    tokenize(prompt) {
      const { ids } = bpe.encode(prompt);
      const kept = ids.length > length ? [...ids.slice(0, length - 1), end] : ids;
      const padding = length - kept.length;
      return {
        ids: [...kept, ...Array<number>(padding).fill(pad)],
        attentionMask: [...Array<number>(kept.length).fill(1), ...Array<number>(padding).fill(0)],
        ...(ids.length > length ? { truncatedText: bpe.decode(ids.slice(length - 1, -1)).trim() } : {}),
      };
    },
  };
};

/**
 * Opens a tokenizer folder: tokenizer.json where there is one, else CLIP's vocab.json and merges.txt; with
 * tokenizer_config.json in both cases.
 * @throws TandemError `TOKENIZER_INVALID` when a file is missing or malformed
 */
export const openTokenizer = async (directory: string): Promise<PromptTokenizer> => {
  try {
    return await load(directory);
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
