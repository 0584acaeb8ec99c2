import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  type ApiError,
  health,
  type ImageAnswer,
  isAlive,
  json,
  post,
  spawnLaunch,
  until,
  watch,
  withConfigFile,
  withLaunched,
} from './helpers.js';

const LONG = { prompt: 'x', num_inference_steps: 200, n: 4 };
const KEY = 'a-key-for-this-test-only';

describe('tandem launch', () => {
  it('finishes what it was asked on SIGTERM, is not ready at once, refuses what is new, and leaves no process', () =>
    withLaunched('{ port: 0, drain_s: 45, max_running: 1 }', async (launched) => {
      const { url } = launched;
      const body = { prompt: 'x', num_inference_steps: 100, response_format: 'b64_json' };
      const running = post(url, body);
      await until(async () => (await health(url)).requests_running === 1);
      const waiting = post(url, { ...body, num_inference_steps: 2 });
      await until(async () => (await health(url)).requests_waiting === 1);
      launched.process.kill('SIGTERM');
      await until(async () => (await fetch(`${url}/ready`)).status === 503, 1_000);
      const refused = await post(url, body);
      expect(refused.status).toBe(503);
      expect((await json<ApiError>(refused)).error.code).toBe('draining');
      expect(refused.headers.get('retry-after')).not.toBeNull();
      for (const answer of [await running, await waiting]) {
        expect(answer.status).toBe(200);
        expect((await json<ImageAnswer>(answer)).data[0]?.b64_json).toBeTruthy();
      }
      expect(await launched.exited).toEqual({ code: 143, signal: null });
      expect(launched.pids.filter(isAlive)).toEqual([]);
    }));

  it('ends what is still under way when the time to drain is over', () =>
    withLaunched('{ port: 0, drain_s: 1 }', async (launched) => {
      const answer = post(launched.url, LONG);
      await until(async () => (await health(launched.url)).requests_running === 1);
      launched.process.kill('SIGTERM');
      expect((await answer).status).toBe(503);
      expect((await launched.exited).code).toBe(143);
      expect(launched.pids.filter(isAlive)).toEqual([]);
    }));

  it('stops at once on Ctrl-C, in the middle of an image', () =>
    withLaunched('{ port: 0 }', async (launched) => {
      const answer = post(launched.url, LONG);
      await until(async () => (await health(launched.url)).requests_running === 1);
      const start = performance.now();
      launched.process.kill('SIGINT');
      expect((await answer).status).toBe(503);
      expect((await launched.exited).code).toBe(130);
      expect(performance.now() - start).toBeLessThan(10_000);
      expect(launched.pids.filter(isAlive)).toEqual([]);
    }));

  it('logs a JSON object a line with request ids, and no prompt', () =>
    withLaunched('{ port: 0 }', async (launched) => {
      await post(
        launched.url,
        { prompt: 'a secret prompt', num_inference_steps: 1 },
        { headers: { 'x-request-id': 'log-1' } },
      );
      launched.process.kill('SIGINT');
      await launched.exited;
      const lines = launched
        .stderr()
        .split('\n')
        .filter((line) => line.startsWith('{'));
      const entries = lines.map((line) => JSON.parse(line) as { request_id?: string; outcome?: string });
      expect(
        entries.find(({ request_id, outcome }) => request_id === 'log-1' && outcome === 'completed'),
      ).toBeDefined();
      expect(launched.stderr()).not.toContain('a secret prompt');
    }));

  it('asks for the API key that its environment holds, except for probes and the page', () =>
    withLaunched(
      '{ port: 0, api_key_env: TANDEM_TEST_KEY }',
      async (launched) => {
        const body = { prompt: 'x', num_inference_steps: 1, response_format: 'url' };
        const without = await post(launched.url, body);
        expect(without.status).toBe(401);
        expect(without.headers.get('www-authenticate')).toBe('Bearer');
        expect((await json<ApiError>(without)).error.code).toBe('invalid_api_key');
        const send = (key: string) => post(launched.url, body, { headers: { authorization: `Bearer ${key}` } });
        expect((await send(`${KEY}x`)).status).toBe(401);
        const answer = await send(KEY);
        expect(answer.status).toBe(200);
        // The address of a picture is itself the secret.
        expect((await fetch((await json<ImageAnswer>(answer)).data[0]?.url ?? '')).status).toBe(200);
        for (const path of ['/live', '/ready', '/', '/openapi.json'])
          expect((await fetch(`${launched.url}${path}`)).status).toBe(200);
        for (const path of ['/health', '/metrics', '/v1/models', '/nothing'])
          expect((await fetch(`${launched.url}${path}`)).status).toBe(401);
        expect(launched.stderr()).not.toContain(KEY);
      },
      { environment: { TANDEM_TEST_KEY: KEY } },
    ));

  it('says so, before it loads anything, when the key or the port is missing', async () => {
    const ended = async (server: string, environment: NodeJS.ProcessEnv = {}) =>
      withConfigFile(server, async (file) => {
        const { texts, exited } = watch(spawnLaunch(file, environment));
        const { code } = await exited;
        return { code, text: texts.stderr };
      });
    const keyless = await ended('{ port: 0, api_key_env: TANDEM_TEST_KEY }');
    expect(keyless.code).toBe(1);
    expect(keyless.text).toMatch(/TANDEM_TEST_KEY.*it is not set/);
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const busy = await ended(`{ port: ${port} }`);
    taken.close();
    expect(busy.code).toBe(1);
    expect(busy.text).toMatch(new RegExp(`127.0.0.1:${port}; another program listens there`));
    const open = await ended('{ port: 0, host: 0.0.0.0 }');
    expect(open.code).toBe(1);
    expect(open.text).toMatch(/server\.host: expected an API key/);
  });
});
