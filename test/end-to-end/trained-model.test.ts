/** The model that ships draws what it is asked for, the same with one worker as with two. */
import { decode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readClusterConfig } from '#tandem/coordinator/index.js';
import { psnr } from '../pipeline/helpers.js';
import { type ImageAnswer, json, post, type Served, start, testConfig } from '../server/helpers.js';

interface Asked {
  readonly config?: 'dual-cpu' | 'single-cpu';
  readonly seed?: number;
  readonly negativePrompt?: string;
}

/** A server for each shipped config. */
const served = new Map<string, Served>();

beforeAll(async () => {
  for (const name of ['dual-cpu', 'single-cpu']) {
    const { devices, defaults, parallel } = await readClusterConfig(`configs/${name}.yaml`);
    served.set(name, start(await testConfig({}, { devices, defaults, parallel })));
  }
  for (const { ready } of served.values()) await ready;
});
afterAll(async () => {
  for (const { stop } of served.values()) await stop();
});

/** RGB bytes of what a shipped config draws with its own defaults. */
const draw = async (
  prompt: string,
  { config = 'dual-cpu', seed = 0, negativePrompt }: Asked = {},
): Promise<Uint8Array> => {
  const negative = negativePrompt === undefined ? {} : { negative_prompt: negativePrompt };
  const body = { prompt, seed, ...negative, response_format: 'b64_json' };
  const { data } = await json<ImageAnswer>(await post(served.get(config)?.url ?? '', body));
  return Uint8Array.from(decode(Buffer.from(data[0]?.b64_json ?? '', 'base64')).data);
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
