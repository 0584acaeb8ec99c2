/** A server whose workers run text encoder and VAE decoder too. */
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import type { ClusterConfig } from '#tandem/coordinator/config/index.js';
import { events, type ImageAnswer, json, metric, post, type Served, startReady, testConfig, until } from './helpers.js';

const BODY = { prompt: 'a red apple', num_inference_steps: 3, seed: 1, response_format: 'b64_json' };
const PLACEMENT: ClusterConfig['placement'] = { text_encoder: 'shard', vae_decoder: { rank: 1 } };

const withServer = async (rest: Partial<ClusterConfig>, work: (served: Served) => Promise<void>): Promise<void> => {
  const served = await startReady({}, rest);
  try {
    await work(served);
  } finally {
    await served.stop();
  }
};

const digestOf = (png: string): string => createHash('sha256').update(png).digest('hex');

const picture = async (url: string): Promise<string> => {
  const response = await post(url, BODY);
  expect(response.status).toBe(200);
  return digestOf((await json<ImageAnswer>(response)).data[0]?.b64_json ?? '');
};

const ranksOf = async (url: string) =>
  (await json<{ ranks: { pid: number; weight_bytes: number }[] }>(await fetch(`${url}/health`))).ranks;

it('survives the loss of a worker with its part of the encoder, counts all weights, and shows previews', () =>
  withServer({ placement: PLACEMENT }, async ({ url, ready }) => {
    const before = await picture(url);
    const denoiser = (await ready).shards.manifest.ranks;
    const ranks = await ranksOf(url);
    const more = ranks.map(({ weight_bytes }, rank) => weight_bytes - (denoiser[rank]?.weight_bytes ?? 0));
    // Half of the encoder on both; the VAE decoder's 0.9 MB on rank 1 only.
    expect(more[0]).toBeGreaterThan(400_000);
    expect((more[1] ?? 0) - (more[0] ?? 0)).toBeGreaterThan(800_000);
    process.kill(ranks[0]?.pid ?? 0, 'SIGKILL');
    await until(async () => (await fetch(`${url}/ready`)).status === 503);
    // Its first step is the encoder's, on workers that are not back yet.
    expect(await picture(url)).toBe(before);
    expect(await metric(url, 'tandem_worker_restarts_total')).toBe(1);
    expect((await ranksOf(url))[0]?.weight_bytes).toBe(ranks[0]?.weight_bytes);
    const steps = await metric(url, 'tandem_step_time_seconds_count');
    const streamed: string[] = [];
    for await (const { type, b64_json } of events(await post(url, { ...BODY, stream: true, partial_images: 2 })))
      streamed.push(type === 'image_generation.completed' ? digestOf(String(b64_json)) : type);
    expect(streamed).toContain('image_generation.partial_image');
    expect(streamed.at(-1)).toBe(before);
    expect(await metric(url, 'tandem_step_time_seconds_count'), 'only denoising is timed').toBe(steps + 3);
  }));

it('take the place of sessions in the coordinator by a swap, loaded for the first picture', () =>
  withServer({}, async ({ url, ready }) => {
    const port = Number(new URL(url).port);
    const config = await testConfig({ port }, { placement: PLACEMENT, loadParts: 'on-demand' });
    expect(await (await ready).swap(async () => config)).toEqual({ kind: 'completed' });
    const split = await picture(url);
    expect(await picture(url)).toBe(split);
  }));
