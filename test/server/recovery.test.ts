import { describe, expect, it } from 'vitest';
import {
  health,
  type ImageAnswer,
  isAlive,
  json,
  metric,
  post,
  start,
  startReady,
  testConfig,
  until,
} from './helpers.js';

const status = async (url: string, path: string): Promise<number | undefined> =>
  fetch(`${url}${path}`).then(
    (response) => response.status,
    () => undefined,
  );

describe('readiness', () => {
  it('is false from the first answer until every rank has run a step', async () => {
    const served = start(await testConfig());
    try {
      await until(async () => (await status(served.url, '/live')) === 200);
      expect(await status(served.url, '/ready')).toBe(503);
      const early = await post(served.url, { prompt: 'x' });
      expect(early.status).toBe(503);
      expect(Number(early.headers.get('retry-after'))).toBeGreaterThan(0);
      await served.ready;
      expect(await status(served.url, '/ready')).toBe(200);
      for (const { last_step_ms } of (await health(served.url)).ranks) expect(last_step_ms).toBeGreaterThan(0);
    } finally {
      await served.stop();
    }
  });

  it('is false from the loss of a worker until the new one has run a step', async () => {
    const served = await startReady();
    try {
      const lost = (await health(served.url)).ranks[1]?.pid ?? 0;
      process.kill(lost, 'SIGKILL');
      await until(async () => (await status(served.url, '/ready')) === 503);
      await until(async () => (await status(served.url, '/ready')) === 200);
      const { ranks } = await health(served.url);
      expect(ranks[1]?.pid).not.toBe(lost);
      expect(ranks[1]?.restarts).toBe(1);
      expect(await metric(served.url, 'tandem_worker_restarts_total')).toBe(1);
      expect((await post(served.url, { prompt: 'x', num_inference_steps: 1 })).status).toBe(200);
    } finally {
      await served.stop();
    }
  });

  it('is lost for good where workers are not restarted: all stop, and the error tells why', async () => {
    const config = await testConfig();
    const served = start({ ...config, workers: { keepWarmMs: 0, maxRestarts: 0 } });
    await served.ready;
    const { ranks } = await health(served.url);
    process.kill(ranks[0]?.pid ?? 0, 'SIGKILL');
    expect((await served.ended).code).toBe('WORKER_DIED');
    await until(() => ranks.every(({ pid }) => !isAlive(pid)));
  });
});

describe('an image whose worker is killed', () => {
  it('arrives, and is the picture of an undisturbed run', async () => {
    const served = await startReady();
    try {
      const body = { prompt: 'a red apple', num_inference_steps: 12, seed: 5, response_format: 'b64_json' };
      const undisturbed = await json<ImageAnswer>(await post(served.url, body));
      const steps = await metric(served.url, 'tandem_step_time_seconds_count');
      const disturbed = post(served.url, body);
      await until(async () => (await metric(served.url, 'tandem_step_time_seconds_count')) > steps + 3);
      process.kill((await health(served.url)).ranks[0]?.pid ?? 0, 'SIGKILL');
      const answer = await json<ImageAnswer>(await disturbed);
      expect(answer.data[0]?.b64_json).toBe(undisturbed.data[0]?.b64_json);
      expect(await metric(served.url, 'tandem_worker_restarts_total')).toBe(1);
    } finally {
      await served.stop();
    }
  });
});
