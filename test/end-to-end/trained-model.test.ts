/** The model that ships draws what it is asked for, the same with one worker as with two. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { describe, expect, it } from 'vitest';
import { generate, readClusterConfig } from '#tandem/coordinator/index.js';
import { psnr } from '../pipeline/helpers.js';
import { fileDirectory } from '../support/directory.js';

const scratch = fileDirectory();

interface Asked {
  readonly config?: string;
  readonly seed?: number;
  readonly negativePrompt?: string;
}

/** RGB bytes of what a shipped config draws with its own defaults. */
const draw = async (prompt: string, { config = 'dual-cpu', ...asked }: Asked = {}): Promise<Uint8Array> => {
  const shipped = await readClusterConfig(`configs/${config}.yaml`);
  const { file } = await generate({
    config: { ...shipped, shards: join(scratch, 'shards') },
    prompt,
    ...asked,
    out: join(scratch, 'picture.png'),
  });
  return Uint8Array.from(decode(await readFile(file)).data);
};

type Rgb = readonly [red: number, green: number, blue: number];

const SIDE = 64;

/** Mean colour of the square of `size` pixels whose upper left corner is at `left`, `top`. */
const meanColour = (picture: Uint8Array, left: number, top: number, size: number): Rgb => {
  const sum: [number, number, number] = [0, 0, 0];
  for (let y = top; y < top + size; y++)
    for (let x = left; x < left + size; x++)
      for (const channel of [0, 1, 2] as const) sum[channel] += picture[(y * SIDE + x) * 3 + channel] ?? Number.NaN;
  return [sum[0] / size ** 2, sum[1] / size ** 2, sum[2] / size ** 2];
};

const middle = (picture: Uint8Array): Rgb => meanColour(picture, 24, 26, 16);

describe('the model that ships', () => {
  it.each([
    { colour: 'red', channel: 0 },
    { colour: 'green', channel: 1 },
    { colour: 'blue', channel: 2 },
  ] as const)('draws a $colour heart on white when asked in any word order', async ({ colour, channel }) => {
    for (const prompt of [`a ${colour} heart`, `the heart is ${colour}`]) {
      const picture = await draw(prompt);
      const others = middle(picture).filter((_, index) => index !== channel);
      expect(middle(picture)[channel]).toBeGreaterThan(Math.max(...others) + 30);
      for (const corner of [0, SIDE - 6]) expect(Math.min(...meanColour(picture, corner, 0, 6))).toBeGreaterThan(235);
    }
  });

  it('draws a green apple instead of a red one when the negative prompt says red', async () => {
    const [red, , blue] = middle(await draw('a red apple'));
    expect(red).toBeGreaterThan(blue + 80);
    const [lessRed, green] = middle(await draw('an apple', { negativePrompt: 'a red apple' }));
    expect(green).toBeGreaterThan(lessRed);
  });

  it('draws another picture of the same thing for another seed', async () => {
    const [first, second] = [await draw('a cat', { seed: 1 }), await draw('a cat', { seed: 2 })];
    expect(psnr(first, second)).toBeLessThan(45);
  });

  it.each(['a red apple', 'a fox', 'a rocket'])('draws the same with one worker as with two (%s)', async (prompt) => {
    const alone = await draw(prompt, { config: 'single-cpu' });
    expect(psnr(await draw(prompt), alone)).toBeGreaterThanOrEqual(60);
  });
});
