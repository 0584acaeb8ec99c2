import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { openTokenizer } from '#tandem/coordinator/pipeline/tokenizer.js';
import { GOLDENS, MODEL, readJson, type TemporaryModel, temporaryModel } from './helpers.js';

const goldens = z
  .array(z.object({ prompt: z.string(), input_ids: z.array(z.number()) }))
  .parse(JSON.parse(readFileSync(join(GOLDENS, 'tokenizer.json'), 'utf8')));

let model: TemporaryModel;

beforeEach(async () => {
  model = await temporaryModel();
});

afterEach(async () => {
  await model.remove();
});

const openTemporary = () => openTokenizer(join(model.directory, 'tokenizer'));

describe('the tokenizer', () => {
  it.each(goldens)('gives the ids of transformers for "$prompt"', async ({ prompt, input_ids }) => {
    const tokenizer = await openTokenizer(join(MODEL, 'tokenizer'));
    expect((await tokenizer.tokenize(prompt)).ids).toEqual(input_ids);
  });

  it('gives the same ids from vocab.json and merges.txt, as Optimum exports them', async () => {
    await model.remove('tokenizer/tokenizer.json');
    const tokenizer = await openTemporary();
    for (const { prompt, input_ids } of goldens) expect((await tokenizer.tokenize(prompt)).ids).toEqual(input_ids);
  });

  it('marks padding in the attention mask', async () => {
    const { ids, attentionMask } = await (await openTemporary()).tokenize('a red cat');
    expect(ids).toHaveLength(32);
    const kept = attentionMask.filter((value) => value === 1).length;
    expect(attentionMask).toEqual([...Array(kept).fill(1), ...Array(32 - kept).fill(0)]);
    expect(new Set(ids.slice(kept - 1)).size).toBe(1);
  });

  it('reports the part of a prompt that does not fit', async () => {
    const tokenizer = await openTemporary();
    expect((await tokenizer.tokenize('a red cat')).truncatedText).toBeUndefined();
    const { ids, truncatedText } = await tokenizer.tokenize(`${'red '.repeat(30)}cat and a dog`);
    expect(truncatedText).toBe('cat and a dog');
    expect(ids[31]).toBe((await tokenizer.tokenize('')).ids[31]);
  });

  it('pads with the token that special_tokens_map.json names, as Stable Diffusion 2 does', async () => {
    const path = 'tokenizer/special_tokens_map.json';
    const map = await readJson(join(model.directory, path));
    await model.write(path, { ...map, pad_token: '!' });
    const padded = await (await openTemporary()).tokenize('red');
    const vocab = await readJson(join(model.directory, 'tokenizer/vocab.json'));
    expect(padded.ids[31]).toBe(vocab['!']);
  });

  it('whose files are missing or malformed is refused by name', async () => {
    await model.write('tokenizer/tokenizer_config.json', { model_max_length: 'many' });
    await expect(openTemporary()).rejects.toMatchObject({
      code: 'TOKENIZER_INVALID',
      message: expect.stringContaining('model_max_length'),
    });
    await expect(openTokenizer('/no/such/tokenizer')).rejects.toThrow('/no/such/tokenizer');
  });

  it('takes the length of Stable Diffusion where its files name none, as transformers writes that', async () => {
    const config = await readJson(join(model.directory, 'tokenizer/tokenizer_config.json'));
    await model.write('tokenizer/tokenizer_config.json', { ...config, model_max_length: 1e30 });
    expect((await openTemporary()).modelMaxLength).toBe(77);
  });

  it('whose expressions never come to an end is ended, while everything else goes on, and the next one is well', async () => {
    const json = await readJson(join(model.directory, 'tokenizer/tokenizer.json'));
    const endless = { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated', invert: false };
    await model.write('tokenizer/tokenizer.json', { ...json, normalizer: null, pre_tokenizer: endless });
    const tokenizer = await openTemporary();
    let ticks = 0;
    const timer = setInterval(() => {
      ticks += 1;
    }, 50);
    const start = performance.now();
    await expect(tokenizer.tokenize(`${'a'.repeat(60)}!`)).rejects.toMatchObject({
      code: 'TOKENIZER_INVALID',
      message: expect.stringMatching(/read a prompt within 5 s/),
    });
    clearInterval(timer);
    // Five seconds are of the processor, which others may have meanwhile.
    expect(performance.now() - start).toBeLessThan(60_000);
    expect(ticks).toBeGreaterThan(10);
    expect((await (await openTokenizer(join(MODEL, 'tokenizer'))).tokenize('a red cat')).ids).toHaveLength(32);
  });
});
