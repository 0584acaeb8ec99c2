/**
 * What a small model knows, from the list that its directory may carry (`known.json`): which words of a prompt it has never met, what
 * it knows that is nearest, and examples to offer. Models without the list, such as those that know half of the internet, get no hints.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { editDistance } from '../../common/edit-distance.js';
import { modelDirectoryError } from './errors.js';

const thing = z.object({
  /** A prompt that draws it. */
  example: z.string().min(1),
  names: z.array(z.string().min(1)).min(1),
  colour: z.string().optional(),
  groups: z.array(z.string()).default([]),
});

const known = z.object({
  things: z.array(thing).min(1),
  /** Every word that the model met, in small letters. */
  words: z.array(z.string()).min(1),
});

type Thing = z.output<typeof thing>;

/** What a model knows; see `readKnownWords`. */
export interface KnownWords {
  /** Prompts that show what the model can, one a thing that it knows. */
  readonly examples: readonly string[];
  /** A sentence for a prompt with words that the model never met; undefined where it knows them all. */
  hint(prompt: string): string | undefined;
}

const SUGGESTIONS = 4;

const MOST_QUOTED = 6;
const LONGEST_QUOTED = 30;

/** A prompt may hold thousands of words, or one of thousands of letters. */
const quote = (words: readonly string[]): string => {
  const shown = words.slice(0, MOST_QUOTED).map((word) => {
    const letters = [...word];
    return `"${letters.slice(0, LONGEST_QUOTED).join('')}${letters.length > LONGEST_QUOTED ? '...' : ''}"`;
  });
  const more = words.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more words` : ''}`;
};

/** One letter differs, or two of a long word. */
const isMistyped = (word: string, name: string): boolean =>
  word.length >= 4 && editDistance(word, name) <= (word.length >= 7 ? 2 : 1);

const wordsOf = (text: string): readonly string[] => text.toLowerCase().match(/\p{L}+/gu) ?? [];

/** Names like a word that is unknown count most, then what shares a word or a colour with the rest of the prompt. */
const score = ({ names, colour, groups }: Thing, unknown: readonly string[], prompt: ReadonlySet<string>): number => {
  const own = names.flatMap(wordsOf).filter((word) => word.length > 2);
  const mistyped = own.some((name) => unknown.some((word) => isMistyped(word, name)));
  const shared = [...own, ...groups].some((word) => prompt.has(word));
  return (mistyped ? 4 : 0) + (shared ? 2 : 0) + (colour !== undefined && prompt.has(colour) ? 1 : 0);
};

/** What to try instead: the examples nearest to a prompt, the nearest first; where nothing is near, some from all over the list. */
const offer = (things: readonly Thing[], unknown: readonly string[], prompt: ReadonlySet<string>): string => {
  const near = things
    .map((one) => ({ example: one.example, points: score(one, unknown, prompt) }))
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points);
  const spread = things.filter((_, index) => index % Math.ceil(things.length / SUGGESTIONS) === 0);
  const offered = near.length > 0 ? near : spread;
  const quoted = offered.slice(0, SUGGESTIONS).map(({ example }) => `"${example}"`);
  if (near.length === 0) return `Among them are ${quoted.join(', ')}.`;
  return `Nearest to the prompt ${quoted.length > 1 ? 'are' : 'is'} ${quoted.join(', ')}.`;
};

const knownWords = ({ things, words }: z.output<typeof known>): KnownWords => {
  const met = new Set(words);
  return {
    examples: things.map(({ example }) => example),
    hint(prompt) {
      const asked = new Set(wordsOf(prompt));
      const unknown = [...asked].filter((word) => !met.has(word));
      if (unknown.length === 0) return undefined;
      const quoted = quote(unknown);
      return `The model has never met ${quoted}: it knows ${things.length} things. ${offer(things, unknown, asked)}`;
    },
  };
};

/**
 * Reads a model directory's `known.json`.
 * @returns undefined where the directory has none
 * @throws TandemError `MODEL_DIRECTORY` where it is not as it should be
 */
export const readKnownWords = async (directory: string): Promise<KnownWords | undefined> => {
  const file = join(directory, 'known.json');
  try {
    return knownWords(known.parse(JSON.parse(await readFile(file, 'utf8'))));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    const found = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    throw modelDirectoryError(directory, [`${file} is not a list of what the model knows: ${found}`]);
  }
};
