import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generate } from '#tandem/coordinator/generate/generate.js';
import { testDirectory } from '../support/directory.js';
import {
  type ApiError,
  events,
  type Health,
  health,
  type ImageAnswer,
  json,
  post,
  type Served,
  type StreamEvent,
  start,
  startReady,
  testConfig,
  until,
} from './helpers.js';

const BODY = { prompt: 'a red apple', num_inference_steps: 2, guidance_scale: 3, seed: 5 };

let served: Served;
beforeAll(async () => {
  served = await startReady({}, { sizes: [{ width: 80, height: 64 }] });
});
afterAll(async () => {
  await served.stop();
});

interface SizedHealth extends Health {
  readonly sizes: readonly { readonly size: string; readonly state: string; readonly memory_bytes: number }[];
}

const loadedSizes = async (): Promise<readonly string[]> =>
  ((await health(served.url)) as SizedHealth).sizes.map(({ size }) => size);

const stream = async (body: object): Promise<StreamEvent[]> => {
  const all: StreamEvent[] = [];
  for await (const event of events(await post(served.url, { ...BODY, partial_images: 0, ...body, stream: true })))
    all.push(event);
  return all;
};

const types = (all: readonly StreamEvent[]): readonly string[] => [...new Set(all.map(({ type }) => type))];
const PREPARING = 'image_generation.preparing';

describe('a request for another size', () => {
  it('is met at once where the config had it prepared', async () => {
    expect(await loadedSizes()).toEqual(['64x64', '80x64']);
    const all = await stream({ size: '80x64' });
    expect(types(all)).not.toContain(PREPARING);
    const { width, height } = decode(Buffer.from(String(all.at(-1)?.b64_json), 'base64'));
    expect([width, height, all.at(-1)?.size]).toEqual([80, 64, '80x64']);
  });

  it('is met, with progress, where it was not, in place of the one that was not used for longest', async () => {
    const all = await stream({ size: '64x80' });
    expect(types(all)[0]).toBe(PREPARING);
    expect(all.find(({ type }) => type === PREPARING)).toMatchObject({ size: '64x80', done: expect.any(Number) });
    expect(all.at(-1)).toMatchObject({ type: 'image_generation.completed', size: '64x80' });
    expect(await loadedSizes()).toEqual(['64x64', '64x80']);
    for (const { memory_bytes, state } of ((await health(served.url)) as SizedHealth).sizes) {
      expect(state).toBe('ready');
      expect(memory_bytes).toBeGreaterThan(1e6);
    }
    expect(types(await stream({ size: '64x80' }))).not.toContain(PREPARING);
  });

  it('gives the picture that `tandem generate` makes of that size', async () => {
    const answer = await json<ImageAnswer>(await post(served.url, { ...BODY, size: '64x80' }));
    const out = join(testDirectory(), 'picture.png');
    const picture = { prompt: BODY.prompt, numInferenceSteps: 2, guidanceScale: 3, seed: 5, width: 64, height: 80 };
    await generate({ config: await testConfig(), ...picture, out });
    const own = decode(await readFile(out));
    const sent = decode(Buffer.from(answer.data[0]?.b64_json ?? '', 'base64'));
    expect(Buffer.from(sent.data.buffer).equals(Buffer.from(own.data.buffer))).toBe(true);
  });

  it('holds nobody up who wants a size that is there', async () => {
    const other = stream({ size: '80x64' });
    await until(async () => !(await loadedSizes()).includes('64x80'));
    expect((await post(served.url, BODY)).status).toBe(200);
    expect((await other).at(-1)?.type).toBe('image_generation.completed');
  });

  it('leaves nothing under way when its client goes', async () => {
    const leaving = new AbortController();
    const response = await post(served.url, { ...BODY, size: '96x96', stream: true }, { signal: leaving.signal });
    await events(response).next();
    leaving.abort();
    await until(async () => (await health(served.url)).requests_waiting === 0);
    expect(await loadedSizes()).not.toContain('96x96');
    expect((await post(served.url, { ...BODY, size: '80x64' })).status).toBe(200);
  });

  it.each([
    ['100x64', /width must be a multiple of 16; found 100, nearest are 96 and 112/],
    ['64x8', /height must be a multiple of 16; found 8, the smallest is 16/],
    ['4096x64', /at most 2048/],
    ['big', /expected a size such as "512x512", or "auto"; found "big"/],
  ])('is refused with 400 where the model cannot make it: %s', async (size, message) => {
    const response = await post(served.url, { ...BODY, size });
    expect(response.status).toBe(400);
    const { error } = await json<ApiError>(response);
    expect(error).toMatchObject({ param: 'size', message: expect.stringMatching(message) });
  });

  it('is told of beforehand', async () => {
    const { data } = await json<{ data: object[] }>(await fetch(`${served.url}/v1/models`));
    expect(data[0]).toMatchObject({ size: '64x64', size_multiple: 16, other_sizes: true });
    expect(data[0]).toMatchObject({ sizes: expect.arrayContaining(['64x64', '80x64']) });
  });
});

describe('where memory is limited', () => {
  it('a size that does not fit beside the default one is refused with the figures, and the default one is made', async () => {
    const config = await testConfig();
    // The default size takes 6.7 MiB; the other one 15.0, 9.0 of which are activations, which nothing shares.
    const devices = config.devices.map((device) => ({ ...device, memoryLimit: 15.5 * 2 ** 20 }));
    const limited = start({
      ...config,
      devices,
      placement: { text_encoder: 'coordinator', vae_decoder: 'coordinator' },
    });
    try {
      await limited.ready;
      const refused = await post(limited.url, { ...BODY, size: '256x256' });
      expect(refused.status).toBe(400);
      const { error } = await json<ApiError>(refused);
      expect(error).toMatchObject({
        param: 'size',
        code: 'size_too_large',
        message: expect.stringMatching(/memory_limit is 15.5 MiB/),
      });
      expect((await post(limited.url, BODY)).status).toBe(200);
    } finally {
      await limited.stop();
    }
  });

  it('weights that two sizes share are counted once', async () => {
    const config = await testConfig();
    // A size takes 6.2 MiB of weights by itself, and the larger one 2.3 MiB of activations.
    const devices = config.devices.map((device) => ({ ...device, memoryLimit: 12 * 2 ** 20 }));
    const limited = start({
      ...config,
      devices,
      placement: { text_encoder: 'coordinator', vae_decoder: 'coordinator' },
    });
    try {
      await limited.ready;
      expect((await post(limited.url, { ...BODY, size: '96x96' })).status).toBe(200);
    } finally {
      await limited.stop();
    }
  });
});

it('a config that wants a size which the model cannot make is refused at the start', async () => {
  const wrong = start(await testConfig({}, { sizes: [{ width: 100, height: 64 }] }));
  expect((await wrong.ended).message).toMatch(/width must be a multiple of 16; found 100/);
});
