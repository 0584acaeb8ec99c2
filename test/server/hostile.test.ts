import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type ApiError,
  health,
  json,
  metric,
  post,
  type Served,
  spawnLaunch,
  startReady,
  until,
  withConfigFile,
} from './helpers.js';
import { ask, exchange, open, postBytes } from './raw.js';

const LONG = { prompt: 'a long one', num_inference_steps: 40, guidance_scale: 1 };
const SHORT = { prompt: 'a short one', num_inference_steps: 1 };

let served: Served;
beforeAll(async () => {
  served = await startReady({ maxQueue: 7, maxRunning: 1, trustProxy: ['127.0.0.3'] });
});
afterAll(async () => {
  await served.stop();
});

const underWay = async (): Promise<number> => {
  const { requests_running, requests_waiting } = await health(served.url);
  return requests_running + requests_waiting;
};
afterEach(() => until(async () => (await underWay()) === 0));

const errorIn = (body: string): ApiError['error'] => (JSON.parse(body) as ApiError).error;

describe('requests that are sent ahead on one connection', () => {
  it('are gone with the connection, all of them, within a step', async () => {
    const before = await metric(served.url, 'tandem_requests_total{outcome="completed"}');
    const socket = await open(served.url);
    socket.write(postBytes(LONG).repeat(10));
    await until(async () => (await health(served.url)).requests_running === 1);
    // One request a connection: the other nine take no places.
    expect(await underWay()).toBe(1);
    socket.destroy();
    await until(async () => (await underWay()) === 0, 5_000);
    await delay(200);
    expect(await underWay()).toBe(0);
    expect(await metric(served.url, 'tandem_requests_total{outcome="completed"}')).toBe(before);
  });

  it('are answered one after the other, in their order', async () => {
    const last = 'GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n';
    const answer = await exchange(served.url, postBytes(SHORT) + postBytes({ ...SHORT, n: 0 }) + last);
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['200', '400', '200']);
  });

  it('end a connection that sends more than may wait', async () => {
    const socket = await open(served.url);
    socket.write(postBytes(LONG).repeat(30));
    await once(socket, 'close');
  });
});

describe('a stop', () => {
  it('does not wait for requests that were sent ahead and left', async () => {
    const other = await startReady();
    const socket = await open(other.url);
    socket.write(postBytes(LONG).repeat(10));
    await until(async () => (await health(other.url)).requests_running === 1);
    socket.destroy();
    const start = performance.now();
    await other.stop();
    expect(performance.now() - start).toBeLessThan(8_000);
  });
});

describe('a log that nobody reads', () => {
  it('stops nothing: lines are dropped and counted, and SIGTERM ends the server', () =>
    withConfigFile('{ port: 0 }', async (file) => {
      const child = spawnLaunch(file);
      child.stderr?.pause();
      const [report] = await once(child.stdout ?? child, 'data');
      const { url } = JSON.parse(String(report)) as { url: string };
      const name = 'tandem_log_lines_dropped_total';
      const request = async (): Promise<void> => {
        const response = await fetch(`${url}/nothing`, { headers: { 'x-request-id': 'x'.repeat(128) } });
        await response.arrayBuffer();
      };
      for (let round = 0; round < 200 && (await metric(url, name)) === 0; round++)
        await Promise.all(Array.from({ length: 100 }, request));
      expect(await metric(url, name)).toBeGreaterThan(0);
      expect((await fetch(`${url}/live`)).status).toBe(200);
      const start = performance.now();
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).toEqual([143, null]);
      expect(performance.now() - start).toBeLessThan(10_000);
    }));
});

describe('bodies made to hurt', () => {
  const send = (body: string) =>
    ask(
      served.url,
      '/v1/images/generations',
      { method: 'POST', headers: { 'content-type': 'application/json' } },
      body,
    );

  it('that are nested a thousandfold are refused with 400', async () => {
    const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
    for (const body of [deep, `{"prompt":${deep}}`, `{"what":${deep}}`, `{"prompt":"x","n":${deep}}`]) {
      const answer = await send(body);
      expect(answer.status).toBe(400);
      expect(errorIn(answer.body).type).toBe('invalid_request_error');
    }
  });

  it('with thousands of unknown fields get a short answer, at once', async () => {
    const keys = Array.from({ length: 5_700 }, (_, index) => `"k${index}":1`);
    const start = performance.now();
    const answer = await send(`{${keys.join(',')}}`);
    expect(performance.now() - start).toBeLessThan(500);
    expect(answer.status).toBe(400);
    expect(answer.body.length).toBeLessThan(4_000);
    expect(errorIn(answer.body).message).toMatch(/There are 569\d more problems/);
  });

  it('with a name as long as the body get a short answer', async () => {
    const answer = await send(`{"${'a'.repeat(60_000)}":1,"prompt":"${'b'.repeat(5000)}"}`);
    expect(answer.status).toBe(400);
    expect(answer.body.length).toBeLessThan(2_000);
  });
});

describe('what the framework itself refuses', () => {
  const evil = { headers: { host: 'evil.example' } };

  it.each(['/%zz', `/images/${'x'.repeat(500)}`, '/v1/models/%'])('passes the check of the Host: %s', async (path) => {
    const refused = await ask(served.url, path, evil);
    expect(refused.status).toBe(403);
    expect(errorIn(refused.body).code).toBe('host_not_allowed');
  });

  it.each(['/%zz', `/v1/models/${'x'.repeat(500)}`])('has the shape of every error: %s', async (path) => {
    const refused = await ask(served.url, path);
    expect([400, 404, 414]).toContain(refused.status);
    expect(errorIn(refused.body).type).toBe('invalid_request_error');
    expect(refused.headers['x-request-id']).toBeTruthy();
  });

  it('is so even for what is no HTTP', async () => {
    const answer = await exchange(served.url, 'HELLO\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(errorIn(answer.split('\r\n\r\n')[1] ?? '').code).toBe('malformed_request');
    const large = await exchange(
      served.url,
      `GET /live HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
    );
    expect(large).toMatch(/^HTTP\/1\.1 431 /);
  });

  it('is 405 with the methods that a path has, where only the method is wrong', async () => {
    for (const [path, method, allow] of [
      ['/v1/images/generations', 'GET', 'POST'],
      ['/health', 'POST', 'GET, HEAD'],
      ['/v1/models/emoji-sd', 'DELETE', 'GET, HEAD'],
    ] as const) {
      const answer = await ask(served.url, path, { method });
      expect([answer.status, answer.headers.allow]).toEqual([405, allow]);
      expect(errorIn(answer.body).code).toBe('method_not_allowed');
    }
  });
});

describe('one client with many requests', () => {
  const SHARE = 6;
  const from = (address: string, body: unknown, headers: Record<string, string> = {}) =>
    ask(
      served.url,
      '/v1/images/generations',
      {
        method: 'POST',
        localAddress: address,
        headers: { 'content-type': 'application/json', host: 'localhost', ...headers },
      },
      JSON.stringify(body),
    );

  /** Runs `work` while a client has its share of the queue. */
  const crowded = async (work: () => Promise<void>): Promise<void> => {
    const controller = new AbortController();
    for (let place = 0; place < SHARE; place++)
      void post(served.url, LONG, { signal: controller.signal }).catch(() => undefined);
    try {
      await until(async () => (await underWay()) === SHARE);
      await work();
    } finally {
      controller.abort();
    }
  };

  it('takes its share of the queue, and another client comes in and before its second picture', () =>
    crowded(async () => {
      const refused = await post(served.url, SHORT);
      expect(refused.status).toBe(429);
      expect((await json<ApiError>(refused)).error.code).toBe('client_share_taken');
      expect((await from('127.0.0.2', SHORT)).status).toBe(200);
      // One picture was ahead, not six.
      expect(await underWay()).toBeGreaterThanOrEqual(SHARE - 2);
    }));

  it('is told by its address behind a proxy that the config trusts, and not by what it says itself', () =>
    crowded(async () => {
      const forwarded = { 'x-forwarded-for': '127.0.0.1' };
      expect((await from('127.0.0.3', SHORT, forwarded)).status).toBe(429);
      expect((await from('127.0.0.2', SHORT, forwarded)).status).toBe(200);
    }));

  it('cannot take every connection', async () => {
    const sockets = await Promise.all(Array.from({ length: 300 }, () => open(served.url)));
    await delay(200);
    expect((await ask(served.url, '/live', { localAddress: '127.0.0.2', headers: { host: 'localhost' } })).status).toBe(
      200,
    );
    for (const socket of sockets) socket.destroy();
  });
});
