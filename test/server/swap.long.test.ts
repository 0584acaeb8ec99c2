import { createHash } from 'node:crypto';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ClusterConfig, readClusterConfig } from '#tandem/coordinator/config/index.js';
import type { Ready } from '#tandem/coordinator/server/index.js';
import { plan } from '#tandem/partition/index.js';
import { decodeModel, encodeModel } from '#tandem/partition/onnx/index.js';
import { isAlive } from '../cluster/helpers.js';
import { fileDirectory } from '../support/directory.js';
import {
  CONFIG,
  type Health,
  type ImageAnswer,
  json,
  launchReady,
  metric,
  post,
  type Served,
  startReady,
  testConfig,
  until,
  withLaunched,
} from './helpers.js';

/** Small pictures: what is tested is who makes them. */
const SIZE = { width: 64, height: 64 };
const BODY = { prompt: 'a red apple', num_inference_steps: 3, seed: 1, response_format: 'b64_json' };

/** Another version's shards are made first, beside whatever else the machine does. */
const SWAP_LIMIT_MS = 60_000;

const scratch = fileDirectory();
let other = '';

/** The shipped model with other weights in its denoiser. */
const makeOtherVersion = async (directory: string): Promise<string> => {
  const { model } = await readClusterConfig(CONFIG);
  await cp(model, directory, { recursive: true });
  const path = join(directory, 'unet', 'model.onnx');
  const graph = decodeModel(await readFile(path));
  for (const { rawData, dataType } of graph.graph?.initializer ?? []) {
    if (dataType !== 1 || rawData.byteLength < 4096) continue;
    const values = new Float32Array(Uint8Array.from(rawData).buffer);
    rawData.set(new Uint8Array(values.map((value) => value * 1.1).buffer));
  }
  await writeFile(path, encodeModel(graph));
  return directory;
};

beforeAll(async () => {
  other = await makeOtherVersion(join(scratch, 'other'));
});

const health = async (url: string) =>
  json<Health & { version: string; swap: { state: string; reason: string | null } }>(await fetch(`${url}/health`));

const pidsOf = async (url: string): Promise<readonly number[]> => (await health(url)).ranks.map(({ pid }) => pid);

const smallPictures = async (rest: Partial<ClusterConfig> = {}): Promise<Served> => {
  const { defaults } = await testConfig();
  return startReady({}, { defaults: { ...defaults, ...SIZE }, shards: join(scratch, 'shards'), ...rest });
};

/** Runs `work` with a server, its config and the way to swap it. */
const withServer = async (
  work: (served: Served, ready: Ready, config: ClusterConfig) => Promise<void>,
  rest: Partial<ClusterConfig> = {},
): Promise<void> => {
  const served = await smallPictures(rest);
  try {
    const ready = await served.ready;
    const { defaults, ...config } = await testConfig(
      { port: Number(new URL(served.url).port) },
      { shards: join(scratch, 'shards'), ...rest },
    );
    await work(served, ready, { ...config, defaults: { ...defaults, ...SIZE } });
  } finally {
    await served.stop();
  }
};

/** Makes the picture of `BODY` and says which one it is. */
const picture = async (url: string): Promise<string> => {
  const response = await post(url, BODY);
  expect(response.status).toBe(200);
  const png = (await json<ImageAnswer>(response)).data[0]?.b64_json ?? '';
  return createHash('sha256').update(png).digest('hex');
};

describe('another version of the model', () => {
  it('takes the place of the one that is served, and no request fails or meets both', () =>
    withServer(async ({ url }, ready, config) => {
      const before = await health(url);
      const oldPids = await pidsOf(url);
      const oldPicture = await picture(url);
      const pictures: string[] = [];
      let asking = true;
      const client = async (): Promise<void> => {
        while (asking) pictures.push(await picture(url));
      };
      const clients = Promise.all([client(), client(), client()]);
      const outcome = await ready.swap(async () => ({ ...config, model: other }));
      expect(outcome).toEqual({ kind: 'completed' });
      const newPicture = await picture(url);
      asking = false;
      await clients;
      expect(newPicture).not.toBe(oldPicture);
      expect(pictures).toContain(oldPicture);
      expect(pictures.filter((one) => one !== oldPicture && one !== newPicture)).toEqual([]);
      await until(() => oldPids.every((pid) => !isAlive(pid)));
      const after = await health(url);
      expect(after.swap).toEqual({ state: 'completed', reason: null });
      expect(after.version).toMatch(/^[0-9a-f]{64}$/);
      expect(after.version).not.toBe(before.version);
      const models = await json<{ data: { id: string; version: string }[] }>(await fetch(`${url}/v1/models`));
      expect(models.data).toMatchObject([{ id: 'other', version: after.version }]);
      expect(await metric(url, 'tandem_model_swaps_total{outcome="completed"}')).toBe(1);
      expect(await metric(url, 'tandem_ready')).toBe(1);
    }));

  it('may make pictures of another size', () =>
    withServer(async ({ url }, ready, config) => {
      const defaults = { ...config.defaults, width: 128, height: 128 };
      expect(await ready.swap(async () => ({ ...config, defaults }))).toEqual({ kind: 'completed' });
      expect((await json<{ size: string }>(await post(url, BODY))).size).toBe('128x128');
    }));

  it('is refused, and the old one stays, where it cannot be loaded, changes the socket or does not fit beside the old', () =>
    withServer(async ({ url, log }, ready, config) => {
      const pids = await pidsOf(url);
      const broken = await makeOtherVersion(join(scratch, 'broken'));
      await writeFile(join(broken, 'unet', 'model.onnx'), 'no model');
      const textless = await makeOtherVersion(join(scratch, 'textless'));
      await writeFile(join(textless, 'text_encoder', 'model.onnx'), 'no model');
      const { ranks } = await plan({
        model: ready.model,
        devices: config.devices,
        dims: ready.shards.profile.dims,
        wire: 'fp32',
      });
      const needed = Math.max(...ranks.map((rank) => rank.weight_bytes + rank.activation_peak_bytes));
      const limited = config.devices.map((device) => ({ ...device, memoryLimit: Math.ceil(1.5 * needed) }));
      const server = { ...config.server, maxQueue: 3 };
      const cases: readonly (readonly [Partial<ClusterConfig>, string, RegExp])[] = [
        [{ model: broken }, 'MODEL_NOT_ONNX', /is not an ONNX model|not a whole ONNX model/],
        [{ model: textless }, 'SESSION_FAILED', /text_encoder/],
        [{ server }, 'SWAP_SERVER', /changed are maxQueue/],
        [{ devices: limited }, 'SWAP_MEMORY', /rank 0 .* are served and .* are to be loaded.*memory_limit is .*B/],
      ];
      for (const [changes, code, reason] of cases) {
        const outcome = await ready.swap(async () => ({ ...config, ...changes }));
        expect(outcome).toMatchObject({ kind: 'failed', error: { code } });
        const { swap, state } = await health(url);
        expect(swap).toEqual({ state: 'failed', reason: expect.stringMatching(reason) });
        expect(state).toBe('ready');
      }
      expect(await pidsOf(url)).toEqual(pids);
      await picture(url);
      expect(await metric(url, 'tandem_model_swaps_total{outcome="failed"}')).toBe(4);
      expect(log.filter(({ msg }) => msg === 'not swapped')).toHaveLength(4);
    }));
});

/** How many have ended. */
const swaps = async (url: string): Promise<number> =>
  (await metric(url, 'tandem_model_swaps_total{outcome="completed"}')) +
  (await metric(url, 'tandem_model_swaps_total{outcome="failed"}'));

describe('SIGHUP', () => {
  it('serves what the config says now, keeps the old version where that cannot be, and leaves no process in the end', () =>
    withLaunched(
      '{ port: 0 }',
      async (launched) => {
        const { url, pids, file } = launched;
        const text = await readFile(file, 'utf8');
        const hangUp = async (changed: string, state: string): Promise<void> => {
          const before = await swaps(url);
          await writeFile(file, changed);
          launched.process.kill('SIGHUP');
          const isOver = async () => (await swaps(url)) > before && (await health(url)).swap.state === state;
          await until(isOver, SWAP_LIMIT_MS);
        };
        await hangUp(`${text}nonsense: 1\n`, 'failed');
        expect((await health(url)).swap.reason).toMatch(/nonsense: unknown key/);
        expect(await pidsOf(url)).toEqual(pids);
        const changed = text.replace(/^model: .*$/m, `model: ${other}`);
        await hangUp(changed, 'completed');
        const others = await pidsOf(url);
        // The same workers' shards, so that only the config's defaults are new.
        await hangUp(changed.replace('width: 64', 'num_inference_steps: 2, width: 64'), 'completed');
        const [model] = (await json<{ data: { num_inference_steps: number }[] }>(await fetch(`${url}/v1/models`))).data;
        expect(model?.num_inference_steps).toBe(2);
        const last = await pidsOf(url);
        await until(() => ![...pids, ...others].some(isAlive));
        launched.process.kill('SIGKILL');
        await launched.exited;
        const again = await launchReady(file);
        expect(again.pids).toEqual(last);
        await picture(again.url);
        again.process.kill('SIGTERM');
        expect((await again.exited).code).toBe(143);
        expect(last.filter(isAlive)).toEqual([]);
      },
      { defaults: '{ width: 64, height: 64 }' },
    ));
});

describe('text encoder and VAE', () => {
  it('are loaded for the first picture where the config says so; a failure is told and not for ever', async () => {
    const model = await makeOtherVersion(join(scratch, 'later'));
    const encoder = join(model, 'text_encoder', 'model.onnx');
    const whole = await readFile(encoder);
    await writeFile(encoder, 'no model');
    const served = await smallPictures({ model, loadParts: 'on-demand' });
    try {
      const refused = await post(served.url, BODY);
      expect(refused.status).toBe(500);
      expect((await json<{ error: { code: string } }>(refused)).error.code).toBe('SESSION_FAILED');
      await writeFile(encoder, whole);
      await picture(served.url);
    } finally {
      await served.stop();
    }
  });
});
