import { rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type Directory, makeDirectory } from '../support/directory.js';
import { type ApiError, type Health, health, type ImageAnswer, json, post, startReady, until } from './helpers.js';

const BODY = { prompt: 'a red apple', num_inference_steps: 2, seed: 3 };

let directory: Directory;
let drift: string;
beforeEach(() => {
  directory = makeDirectory();
  drift = join(directory.path, 'drift');
  vi.stubEnv('TANDEM_TEST_DRIFT', drift);
  vi.stubEnv('NODE_OPTIONS', `--import ${pathToFileURL(resolve('test/server/drift.mjs')).href}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  directory.remove();
});

it('ranks that disagree make no picture: 503, not ready, and ready again by itself once they agree', async () => {
  const served = await startReady();
  try {
    const before = await json<ImageAnswer>(await post(served.url, BODY));
    await writeFile(drift, '');
    const refused = await post(served.url, BODY);
    expect(refused.status).toBe(503);
    expect((await json<ApiError>(refused)).error.code).toBe('RANKS_DISAGREE');
    expect((await fetch(`${served.url}/ready`)).status).toBe(503);
    const { state, reason } = (await health(served.url)) as Health & { reason: string };
    expect(state).toBe('disagreeing');
    expect(reason).toMatch(/2 different ones, twice/);
    expect((await json<ApiError>(await post(served.url, BODY))).error.code).toBe('not_ready');
    await rm(drift);
    await until(async () => (await fetch(`${served.url}/ready`)).status === 200, 20_000);
    const after = await json<ImageAnswer>(await post(served.url, BODY));
    expect(after.data[0]?.b64_json).toBe(before.data[0]?.b64_json);
  } finally {
    await served.stop();
  }
});
