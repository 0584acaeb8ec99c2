import OpenAI from 'openai';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Served, startReady } from './helpers.js';

const KEY = 'a-key-for-this-test-only';

let served: Served;
let client: OpenAI;
beforeAll(async () => {
  served = await startReady({ apiKey: KEY });
  client = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: KEY, maxRetries: 0 });
});
afterAll(async () => {
  await served.stop();
});

it("OpenAI's own client gets a picture for every field that it knows", async () => {
  const { data, created, output_format, usage } = await client.images.generate({
    prompt: 'a red apple',
    model: 'emoji-sd',
    n: 2,
    size: 'auto',
    quality: 'high',
    style: 'vivid',
    background: 'transparent',
    moderation: 'low',
    output_format: 'webp',
    output_compression: 80,
    user: 'somebody',
  });
  expect(data).toHaveLength(2);
  expect(
    Buffer.from(data?.[0]?.b64_json ?? '', 'base64')
      .subarray(8, 12)
      .toString(),
  ).toBe('WEBP');
  expect(created).toBeGreaterThan(1.7e9);
  expect([output_format, usage?.total_tokens]).toEqual(['webp', 0]);
});

it("OpenAI's own client gets an address that it can read without a key", async () => {
  const { data } = await client.images.generate({ prompt: 'a boat', response_format: 'url' });
  expect((await fetch(data?.[0]?.url ?? '')).status).toBe(200);
});

it("OpenAI's own client streams events of its own types", async () => {
  const stream = await client.images.generate({ prompt: 'a boat', stream: true, partial_images: 2 });
  const partials: number[] = [];
  let completed: OpenAI.Images.ImageGenCompletedEvent | undefined;
  for await (const event of stream) {
    if (event.type === 'image_generation.partial_image') {
      partials.push(event.partial_image_index);
      expect([event.output_format, event.quality, event.background]).toEqual(['png', 'auto', 'opaque']);
      expect(event.created_at).toBeGreaterThan(1.7e9);
      expect(event.b64_json.length).toBeGreaterThan(100);
    }
    if (event.type === 'image_generation.completed') completed = event;
  }
  expect(partials.length).toBeGreaterThan(0);
  expect(partials).toEqual(partials.map((_, index) => index));
  expect(completed?.b64_json.length).toBeGreaterThan(100);
  expect(completed?.usage).toMatchObject({ total_tokens: 0, input_tokens_details: { text_tokens: 0 } });
  expect(completed?.created_at).toBeGreaterThan(1.7e9);
});

it("OpenAI's own client throws errors of its own classes, and lists the model", async () => {
  await expect(client.images.generate({ prompt: '' })).rejects.toBeInstanceOf(OpenAI.BadRequestError);
  await expect(client.images.generate({ prompt: 'x', model: 'dall-e-3' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  const stranger = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'another-key-altogether', maxRetries: 0 });
  await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['emoji-sd']);
});
