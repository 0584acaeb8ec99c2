import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type ApiError,
  events,
  health,
  json,
  metric,
  post,
  type Served,
  type StreamEvent,
  startReady,
  until,
} from './helpers.js';

const MAX_QUEUE = 2;
const LONG = { prompt: 'a long one', num_inference_steps: 200, guidance_scale: 2 };
const SHORT = { prompt: 'a short one', num_inference_steps: 1, guidance_scale: 2 };

let served: Served;
beforeAll(async () => {
  served = await startReady({ maxQueue: MAX_QUEUE, maxRunning: 1 });
});
afterAll(async () => {
  await served.stop();
});

const running = async (): Promise<number> => (await health(served.url)).requests_running;
const waiting = async (): Promise<number> => (await health(served.url)).requests_waiting;

// The step that a client left may still be under way.
afterEach(() => until(async () => (await running()) + (await waiting()) === 0));

/** A long request that the client can leave. */
const begin = (body: unknown): { leave: () => Promise<void> } => {
  const controller = new AbortController();
  const ended = post(served.url, body, { signal: controller.signal }).catch(() => undefined);
  return {
    leave: async () => {
      controller.abort();
      await ended;
    },
  };
};

describe('the queue', () => {
  it('frees its place within a step when the client goes', async () => {
    const cancelled = await metric(served.url, 'tandem_requests_total{outcome="cancelled"}');
    const long = begin(LONG);
    await until(
      async () => (await running()) === 1 && (await metric(served.url, 'tandem_step_time_seconds_count')) > 2,
    );
    const stepMs = Math.max(...(await health(served.url)).ranks.map(({ last_step_ms }) => last_step_ms ?? 0));
    const start = performance.now();
    await long.leave();
    await until(async () => (await running()) === 0);
    // One step may be under way, and this machine may be busy with other things.
    expect(performance.now() - start).toBeLessThan(3 * stepMs + 500);
    expect(await metric(served.url, 'tandem_requests_total{outcome="cancelled"}')).toBe(cancelled + 1);
    expect((await post(served.url, SHORT)).status).toBe(200);
  });

  it('frees its place when the reader of a stream goes', async () => {
    const controller = new AbortController();
    const response = await post(served.url, { ...LONG, stream: true }, { signal: controller.signal });
    const reader = events(response);
    await reader.next();
    controller.abort();
    await until(async () => (await running()) === 0, 5_000);
  });

  it('refuses more than may wait with 429 and says when to try again, and recovers', async () => {
    const requests = [begin(LONG)];
    await until(async () => (await running()) === 1);
    for (let place = 0; place < MAX_QUEUE; place++) requests.push(begin(LONG));
    await until(async () => (await waiting()) === MAX_QUEUE);
    const refused = await post(served.url, SHORT);
    expect(refused.status).toBe(429);
    const { error } = await json<ApiError>(refused);
    expect(error).toMatchObject({ type: 'rate_limit_error', code: 'queue_full' });
    // About two hundred measured steps are ahead of the next place.
    const stepS = Math.max(...(await health(served.url)).ranks.map(({ last_step_ms }) => last_step_ms ?? 0)) / 1000;
    const retryAfter = Number(refused.headers.get('retry-after'));
    expect(retryAfter).toBeGreaterThanOrEqual(1);
    expect(retryAfter).toBeGreaterThan(20 * stepS);
    expect(retryAfter).toBeLessThan(2000 * stepS);
    for (const request of requests) await request.leave();
    await until(async () => (await running()) === 0 && (await waiting()) === 0);
    expect((await post(served.url, SHORT)).status).toBe(200);
  });

  it('takes one who leaves out of the line', async () => {
    const long = begin(LONG);
    await until(async () => (await running()) === 1);
    const second = begin(LONG);
    await until(async () => (await waiting()) === 1);
    await second.leave();
    await until(async () => (await waiting()) === 0, 1_000);
    await long.leave();
  });

  it('tells those who wait how many are ahead, and serves them in the order in which they came', async () => {
    const order: string[] = [];
    const read = async (name: string, body: Record<string, unknown>): Promise<StreamEvent[]> => {
      const all: StreamEvent[] = [];
      for await (const event of events(await post(served.url, { ...body, stream: true, partial_images: 0 })))
        all.push(event);
      order.push(name);
      return all;
    };
    const first = read('first', { ...SHORT, num_inference_steps: 6 });
    await until(async () => (await running()) === 1);
    const second = read('second', SHORT);
    await until(async () => (await waiting()) === 1);
    const third = read('third', SHORT);
    const seen = await Promise.all([first, second, third]);
    expect(order).toEqual(['first', 'second', 'third']);
    const ahead = seen[2]?.filter(({ type }) => type === 'image_generation.queued').map((event) => event.ahead);
    expect(ahead?.[0]).toBe(2);
    expect(ahead).toContain(1);
  });

  it('lets another request in between the pictures of one', async () => {
    const order: string[] = [];
    const read = async (name: string, body: Record<string, unknown>): Promise<void> => {
      for await (const { type } of events(await post(served.url, { ...body, stream: true, partial_images: 0 })))
        if (type === 'image_generation.completed') order.push(name);
    };
    const many = read('many', { ...SHORT, num_inference_steps: 6, n: 3 });
    await until(async () => (await running()) === 1);
    await Promise.all([many, read('one', SHORT)]);
    expect(order).toEqual(['many', 'one', 'many', 'many']);
  });

  it('ends what is under way when the server is stopped at once', async () => {
    const other = await startReady();
    const response = post(other.url, LONG);
    await until(async () => (await health(other.url)).requests_running === 1);
    const start = performance.now();
    const ended = await other.stop();
    expect(ended.code).toBe('CANCELLED');
    expect((await response).status).toBe(503);
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});
