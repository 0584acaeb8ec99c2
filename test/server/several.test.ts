/** Several requests at a time on a pipeline of two workers: their steps alternate. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { events, health, type ImageAnswer, json, post, type Served, start, testConfig, until } from './helpers.js';

const LONG = { prompt: 'a long one', num_inference_steps: 200, guidance_scale: 3, stream: true, partial_images: 0 };
const SHORT = { prompt: 'a red apple', num_inference_steps: 6, guidance_scale: 3, seed: 7 };

let served: Served;
beforeAll(async () => {
  const mesh = { tensor: 1, tokens: 1, guidance: 1, pipeline: 2, replicas: 1 };
  served = start(await testConfig({}, { mesh, parallel: 'tensor' }));
  await served.ready;
});
afterAll(async () => {
  await served.stop();
});

const idle = () => until(async () => (await health(served.url)).requests_running === 0);

const picture = async (body: object): Promise<string | undefined> => {
  const response = await post(served.url, { ...body, response_format: 'b64_json' });
  return (await json<ImageAnswer>(response)).data[0]?.b64_json;
};

/** Tells every step of a request by its name. */
const follow = async (name: string, body: object, steps: string[], signal?: AbortSignal): Promise<void> => {
  const response = await post(served.url, body, signal ? { signal } : {});
  for await (const { type } of events(response)) if (type === 'image_generation.progress') steps.push(name);
};

it('lets a short request through beside a long one, a step of each in turn, and leaves it alone when the long one goes', async () => {
  const alone = await picture(SHORT);
  const steps: string[] = [];
  const gone = new AbortController();
  const long = follow('long', LONG, steps, gone.signal).catch(() => 'gone');
  await until(() => steps.length > 3);
  await follow('short', { ...SHORT, stream: true, partial_images: 0 }, steps);
  const between = steps.slice(steps.indexOf('short'), steps.lastIndexOf('short'));
  expect(between.filter((name) => name === 'short')).toHaveLength(5);
  expect(between.filter((name) => name === 'long').length).toBeLessThanOrEqual(10);
  const beside = picture(SHORT);
  gone.abort();
  expect(await long).toBe('gone');
  expect(await beside).toBe(alone);
  await idle();
});

it('makes the same pictures of several requests at once, also where a stage loses its worker meanwhile', async () => {
  const seeds = [1, 2, 3, 4];
  const alone: unknown[] = [];
  for (const seed of seeds) alone.push(await picture({ ...SHORT, seed }));
  expect(new Set(alone).size).toBe(seeds.length);
  expect(await Promise.all(seeds.map((seed) => picture({ ...SHORT, seed })))).toEqual(alone);
  const more = Promise.all(seeds.map((seed) => picture({ ...SHORT, seed })));
  await until(async () => (await health(served.url)).requests_running === seeds.length);
  process.kill((await health(served.url)).ranks[1]?.pid ?? 0, 'SIGKILL');
  expect(await more).toEqual(alone);
  await until(async () => (await health(served.url)).ready);
  expect((await health(served.url)).ranks.map(({ restarts }) => restarts)).toEqual([0, 1]);
});
