/** Prompts to begin with, which a model directory may carry in `prompts.json`: `{ "examples": ["a red apple", ...] }`. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

const MAX_EXAMPLES = 12;
const prompts = z.object({ examples: z.array(z.string().min(1).max(200)) });

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** None where the file is missing or is something else: a model does without. */
export const readExamples = async (directory: string): Promise<readonly string[]> => {
  const text = await readFile(join(directory, 'prompts.json'), 'utf8').catch(() => '');
  const { success, data } = prompts.safeParse(parse(text));
  return success ? data.examples.slice(0, MAX_EXAMPLES) : [];
};
