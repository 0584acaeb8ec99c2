import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type ApiError, type Health, health, type ImageAnswer, json, post, startReady, until } from './helpers.js';

const BODY = { prompt: 'a red apple', num_inference_steps: 2, seed: 3, response_format: 'b64_json' };

/** Changes a file in place, which changes it under those who have mapped it; a second call undoes the first. */
const negate = async (path: string): Promise<void> => {
  const file = await open(path, 'r+');
  const bytes = await file.readFile();
  for (let byte = 3; byte < bytes.length; byte += 4) bytes[byte] = (bytes[byte] ?? 0) ^ 0x80;
  await file.write(bytes, 0, bytes.length, 0);
  await file.close();
};

it('ranks that disagree make no picture: 503, not ready, and ready again by itself once they agree', async () => {
  const shards = await mkdtemp(join(tmpdir(), 'tandem-disagree-'));
  const served = await startReady({}, { shards, loader: 'mmap' });
  try {
    const before = await json<ImageAnswer>(await post(served.url, BODY));
    const folder = (await readdir(shards)).find((name) => name.startsWith('emoji-sd-2x')) ?? '';
    const weights = join(shards, folder, 'rank-1', 'weights.bin');
    await negate(weights);
    const refused = await post(served.url, BODY);
    expect(refused.status).toBe(503);
    expect((await json<ApiError>(refused)).error.code).toBe('RANKS_DISAGREE');
    expect((await fetch(`${served.url}/ready`)).status).toBe(503);
    const { state, reason } = (await health(served.url)) as Health & { reason: string };
    expect(state).toBe('disagreeing');
    expect(reason).toMatch(/2 different ones, twice/);
    expect((await json<ApiError>(await post(served.url, BODY))).error.code).toBe('not_ready');
    await negate(weights);
    await until(async () => (await fetch(`${served.url}/ready`)).status === 200, 20_000);
    const after = await json<ImageAnswer>(await post(served.url, BODY));
    expect(after.data[0]?.b64_json).toBe(before.data[0]?.b64_json);
  } finally {
    await served.stop();
    await rm(shards, { recursive: true, force: true });
  }
});
