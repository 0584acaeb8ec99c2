import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generate } from '#tandem/coordinator/generate/generate.js';
import { ImageStore } from '#tandem/coordinator/server/image-store.js';
import { testDirectory } from '../support/directory.js';
import {
  type ApiError,
  CONFIG,
  events,
  health,
  type ImageAnswer,
  json,
  metric,
  post,
  type Served,
  type StreamEvent,
  startReady,
  testConfig,
} from './helpers.js';

let served: Served;
let size: string;

beforeAll(async () => {
  served = await startReady();
  const models = await json<{ data: { id: string; size: string }[] }>(await fetch(`${served.url}/v1/models`));
  size = models.data[0]?.size ?? '';
});

afterAll(async () => {
  await served.stop();
});

const request = {
  prompt: 'a red apple',
  negative_prompt: 'blurry',
  num_inference_steps: 4,
  guidance_scale: 5,
  seed: 7,
};

const errorOf = async (response: Response): Promise<ApiError['error']> => (await json<ApiError>(response)).error;

describe('POST /v1/images/generations', () => {
  it('gives the very file that `tandem generate` writes for the same request', async () => {
    const answer = await json<ImageAnswer>(await post(served.url, { ...request, response_format: 'b64_json' }));
    const out = join(testDirectory(), 'picture.png');
    const { prompt, seed } = request;
    await generate({
      config: await testConfig(),
      prompt,
      negativePrompt: request.negative_prompt,
      numInferenceSteps: request.num_inference_steps,
      guidanceScale: request.guidance_scale,
      seed,
      out,
    });
    expect(answer.data).toHaveLength(1);
    expect(answer.data[0]?.seed).toBe(seed);
    expect(Buffer.from(answer.data[0]?.b64_json ?? '', 'base64').equals(await readFile(out))).toBe(true);
  });

  it('gives the picture itself by default, and an address where one is asked for', async () => {
    const body = { prompt: 'a boat', num_inference_steps: 2, seed: 1 };
    const whole = await json<ImageAnswer>(await post(served.url, body));
    const answer = await json<ImageAnswer>(await post(served.url, { ...body, response_format: 'url' }));
    const url = answer.data[0]?.url ?? '';
    expect(url.startsWith(`${served.url}/images/`)).toBe(true);
    const picture = await fetch(url);
    expect(picture.headers.get('content-type')).toBe('image/png');
    const bytes = Buffer.from(await picture.arrayBuffer());
    expect(bytes.toString('base64')).toBe(whole.data[0]?.b64_json);
    const { width, height } = decode(bytes);
    expect(`${width}x${height}`).toBe(answer.size);
    expect(answer.size).toBe(size);
  });

  it('gives addresses that hold on a replica and after a restart, and that nobody can make up', async () => {
    const body = { prompt: 'a boat', num_inference_steps: 1, response_format: 'url' };
    const { data } = await json<ImageAnswer>(await post(served.url, body));
    const address = new URL(data[0]?.url ?? '');
    // Another process with the same directory, as far as pictures go.
    const replica = new ImageStore((await testConfig()).server.images);
    const file = address.pathname.split('/').at(-1) ?? '';
    const signed = {
      expires: Number(address.searchParams.get('expires')),
      signature: address.searchParams.get('signature') ?? '',
    };
    expect(await replica.get(file, signed)).toBeDefined();
    const inAnHour = Date.now() / 1000 + 3600;
    expect(Math.abs(signed.expires - inAnHour)).toBeLessThan(60);
    expect(await replica.get(file, { ...signed, expires: signed.expires + 1 })).toBeUndefined();
    expect(await replica.get('../key', signed)).toBeUndefined();
    for (const [name, value] of [
      ['signature', '0'.repeat(64)],
      ['expires', '4000000000'],
      ['expires', 'soon'],
    ] as const) {
      const forged = new URL(address);
      forged.searchParams.set(name, value);
      const response = await fetch(forged);
      expect(response.status).toBe(404);
      expect((await errorOf(response)).code).toBe('image_expired');
    }
  });

  it.each([
    ['jpeg', [0xff, 0xd8, 0xff]],
    ['webp', [...Buffer.from('RIFF')]],
  ] as const)('writes %s, smaller at a lower quality', async (output_format, magic) => {
    const body = { prompt: 'a boat', num_inference_steps: 1, seed: 2, output_format };
    const sizes = [];
    for (const output_compression of [100, 10]) {
      const answer = await json<ImageAnswer>(await post(served.url, { ...body, output_compression }));
      const file = Buffer.from(answer.data[0]?.b64_json ?? '', 'base64');
      expect([...file.subarray(0, magic.length)]).toEqual(magic);
      sizes.push(file.length);
    }
    expect(sizes[1]).toBeLessThan(sizes[0] ?? 0);
    const { data } = await json<ImageAnswer>(await post(served.url, { ...body, response_format: 'url' }));
    expect((await fetch(data[0]?.url ?? '')).headers.get('content-type')).toBe(`image/${output_format}`);
  });

  it("takes OpenAI's other fields, and says in a header which of them change nothing", async () => {
    const plain = { prompt: 'a red apple', num_inference_steps: 1, seed: 1 };
    const quiet = { quality: 'auto', background: 'opaque', moderation: 'auto', user: 'me', n: null, style: null };
    const unheard = await post(served.url, { ...plain, ...quiet });
    expect([unheard.status, unheard.headers.get('tandem-warning')]).toEqual([200, null]);
    const wishes = {
      quality: 'hd',
      style: 'vivid',
      background: 'transparent',
      output_compression: 5,
      partial_images: 2,
    };
    const response = await post(served.url, { ...plain, ...wishes });
    expect(response.status).toBe(200);
    const header = response.headers.get('tandem-warning') ?? '';
    for (const name of Object.keys(wishes)) expect(header).toContain(`"${name} is ignored`);
    const { data } = await json<ImageAnswer>(response);
    expect(data[0]?.warnings).toHaveLength(5);
    expect(data[0]?.b64_json).toBe((await json<ImageAnswer>(unheard)).data[0]?.b64_json);
  });

  it('warns of words that the model never met, with the nearest of what it knows', async () => {
    const body = { num_inference_steps: 1, seed: 1 };
    const unknown = await json<ImageAnswer>(await post(served.url, { ...body, prompt: 'a blue whale' }));
    expect(unknown.data[0]?.warnings).toEqual([
      expect.stringMatching(/never met "whale".*Nearest to the prompt are "a/),
    ]);
    const known = await json<ImageAnswer>(await post(served.url, { ...body, prompt: 'a blue heart' }));
    expect(known.data[0]?.warnings).toBeUndefined();
  });

  it('makes n pictures of consecutive seeds, each what a request of its own gives', async () => {
    const body = { ...request, response_format: 'b64_json', num_inference_steps: 2 };
    const two = await json<ImageAnswer>(await post(served.url, { ...body, n: 2, seed: 3 }));
    const one = await json<ImageAnswer>(await post(served.url, { ...body, seed: 4 }));
    expect(two.data.map(({ seed }) => seed)).toEqual([3, 4]);
    expect(two.data[1]?.b64_json).toBe(one.data[0]?.b64_json);
    expect(two.data[0]?.b64_json).not.toBe(one.data[0]?.b64_json);
  });

  it('draws a seed and tells it where none is given', async () => {
    const body = { prompt: 'a boat', num_inference_steps: 1, response_format: 'b64_json' };
    const first = await json<ImageAnswer>(await post(served.url, body));
    const seed = first.data[0]?.seed ?? -1;
    const again = await json<ImageAnswer>(await post(served.url, { ...body, seed }));
    expect(again.data[0]?.b64_json).toBe(first.data[0]?.b64_json);
  });

  it('serves guidance off as well as on, without loading anything', async () => {
    const response = await post(served.url, {
      ...request,
      guidance_scale: 1,
      negative_prompt: '',
      num_inference_steps: 2,
    });
    expect(response.status).toBe(200);
  });

  it('takes the size and the model that are served, and "auto"', async () => {
    for (const extra of [{ size }, { size: 'auto' }]) {
      expect((await post(served.url, { prompt: 'x', num_inference_steps: 1, ...extra })).status).toBe(200);
    }
  });

  it.each([
    [{}, 'prompt', 'missing_required_parameter', /prompt: it is required/],
    [{ prompt: '' }, 'prompt', 'invalid_value', /prompt: expected .*found ""/],
    [{ prompt: 'x'.repeat(4001) }, 'prompt', 'invalid_value', /4000/],
    [{ prompt: 7 }, 'prompt', 'invalid_value', /expected string; found 7/],
    [{ prompt: 'x', n: 11 }, 'n', 'invalid_value', /n: expected .*10; found 11/],
    [{ prompt: 'x', n: 1.5 }, 'n', 'invalid_value', /found 1.5/],
    [{ prompt: 'x', num_inference_steps: 0 }, 'num_inference_steps', 'invalid_value', /found 0/],
    [{ prompt: 'x', num_inference_steps: 100_000 }, 'num_inference_steps', 'invalid_value', /found 100000/],
    [{ prompt: 'x', guidance_scale: -1 }, 'guidance_scale', 'invalid_value', /found -1/],
    [{ prompt: 'x', seed: -1 }, 'seed', 'invalid_value', /found -1/],
    [{ prompt: 'x', response_format: 'jpeg' }, 'response_format', 'invalid_value', /found "jpeg"/],
    [{ prompt: 'x', qualty: 'hd' }, 'qualty', 'unknown_parameter', /qualty: unknown field/],
    [{ prompt: 'x', num_inference_step: 3 }, 'num_inference_step', 'unknown_parameter', /num_inference_steps/],
    [{ prompt: 'x', output_format: 'gif' }, 'output_format', 'invalid_value', /found "gif"/],
    [{ prompt: 'x', output_compression: 101 }, 'output_compression', 'invalid_value', /found 101/],
    [{ prompt: 'x', quality: 7 }, 'quality', 'invalid_value', /found 7/],
    [[], null, 'invalid_value', /the body/],
  ] as const)('refuses %j with 400, naming the field', async (body, param, code, message) => {
    const response = await post(served.url, body);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ type: 'invalid_request_error', param, code });
    expect((await errorOf(await post(served.url, body))).message).toMatch(message);
  });

  it('refuses a size that the model cannot make with 400', async () => {
    const response = await post(served.url, { prompt: 'x', size: '123x456' });
    expect(response.status).toBe(400);
    const { message, param } = await errorOf(response);
    expect(param).toBe('size');
    expect(message).toMatch(/width must be a multiple of 16; found 123.*height must be a multiple of 16; found 456/);
  });

  it('refuses another model with 404', async () => {
    const response = await post(served.url, { prompt: 'x', model: 'another' });
    expect(response.status).toBe(404);
    expect((await errorOf(response)).code).toBe('model_not_found');
  });

  it('tells all the problems of a body at once', async () => {
    const { message } = await errorOf(await post(served.url, { n: 0, seed: 'x', what: 1 }));
    for (const field of ['prompt', 'n:', 'seed', 'what']) expect(message).toContain(field);
  });

  it('refuses what is not JSON, other media types and large bodies', async () => {
    const send = (body: string, type: string) =>
      fetch(`${served.url}/v1/images/generations`, { method: 'POST', headers: { 'content-type': type }, body });
    expect((await send('{', 'application/json')).status).toBe(400);
    expect((await send('{"prompt":"x"}', 'text/plain')).status).toBe(415);
    expect((await send(JSON.stringify({ prompt: 'x'.repeat(70_000) }), 'application/json')).status).toBe(413);
  });
});

describe('"stream": true', () => {
  const stream = async (body: Record<string, unknown>): Promise<StreamEvent[]> => {
    const response = await post(served.url, { ...request, ...body, stream: true });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const all: StreamEvent[] = [];
    for await (const event of events(response)) all.push(event);
    return all;
  };

  it('tells every step, shows partial pictures, and ends with the picture of the plain answer', async () => {
    const all = await stream({ partial_images: 3 });
    const steps = all.filter(({ type }) => type === 'image_generation.progress').map(({ step }) => step);
    expect(steps).toEqual([1, 2, 3, 4]);
    const partials = all.filter(({ type }) => type === 'image_generation.partial_image');
    expect(partials.map(({ partial_image_index }) => partial_image_index)).toEqual(partials.map((_, index) => index));
    expect(partials.length).toBeGreaterThan(0);
    expect(partials.length).toBeLessThanOrEqual(3);
    for (const { b64_json } of partials) {
      const { width, height } = decode(Buffer.from(String(b64_json), 'base64'));
      expect(`${width}x${height}`).toBe(size);
    }
    const last = all.at(-1);
    expect(last?.type).toBe('image_generation.completed');
    const plain = await json<ImageAnswer>(await post(served.url, { ...request, response_format: 'b64_json' }));
    expect(last?.b64_json).toBe(plain.data[0]?.b64_json);
  });

  it('shows no partial pictures where none are asked for', async () => {
    const all = await stream({ partial_images: 0 });
    expect(all.filter(({ type }) => type.endsWith('partial_image'))).toEqual([]);
  });

  it('refuses a bad body with 400 before it streams', async () => {
    expect((await post(served.url, { prompt: '', stream: true })).status).toBe(400);
  });
});

describe('beside the pictures', () => {
  it('lists the model, and knows no other', async () => {
    const { data } = await json<{ data: { id: string }[] }>(await fetch(`${served.url}/v1/models`));
    expect(data).toHaveLength(1);
    expect((await fetch(`${served.url}/v1/models/${data[0]?.id}`)).status).toBe(200);
    expect((await fetch(`${served.url}/v1/models/another`)).status).toBe(404);
  });

  it('is live and ready, and shows a step, memory and a process for every rank', async () => {
    expect((await fetch(`${served.url}/live`)).status).toBe(200);
    expect((await fetch(`${served.url}/ready`)).status).toBe(200);
    const { ranks, state } = await health(served.url);
    expect(state).toBe('ready');
    expect(ranks.map(({ rank }) => rank)).toEqual([0, 1]);
    for (const { pid, memory_bytes, last_step_ms } of ranks) {
      expect(pid).toBeGreaterThan(0);
      expect(memory_bytes).toBeGreaterThan(1e6);
      expect(last_step_ms).toBeGreaterThan(0);
    }
  });

  it('gives metrics in the text format of Prometheus, every line of it well formed', async () => {
    const text = await (await fetch(`${served.url}/metrics`)).text();
    const label = `[a-z_]+="[^"]*"`;
    const sample = new RegExp(String.raw`^[a-z_:][a-z0-9_:]*(\{${label}(,${label})*\})? (\+Inf|NaN|-?[\d.e+-]+)$`, 'i');
    for (const line of text.split('\n').filter((candidate) => candidate !== '' && !candidate.startsWith('#')))
      expect(line).toMatch(sample);
    for (const name of ['requests_running', 'requests_waiting', 'worker_restarts_total', 'wire_bytes_total'])
      expect(text).toContain(`\ntandem_${name} `);
    for (const name of ['request_queue_time', 'e2e_request_latency', 'step_time', 'exchange_time'])
      expect(text).toContain(`\ntandem_${name}_seconds_bucket{le="+Inf"} `);
    for (const rank of [0, 1]) expect(text).toContain(`\ntandem_rank_memory_bytes{rank="${rank}"} `);
  });

  it('counts steps, bytes on the wire and outcomes', async () => {
    const read = async () => ({
      steps: await metric(served.url, 'tandem_step_time_seconds_count'),
      bytes: await metric(served.url, 'tandem_wire_bytes_total'),
      completed: await metric(served.url, 'tandem_requests_total{outcome="completed"}'),
      invalid: await metric(served.url, 'tandem_requests_total{outcome="invalid"}'),
    });
    const before = await read();
    await post(served.url, { prompt: 'x', num_inference_steps: 3 });
    await post(served.url, { prompt: 'x', n: 0 });
    const after = await read();
    expect(after.steps - before.steps).toBe(3);
    expect(after.bytes).toBeGreaterThan(before.bytes);
    expect(after.completed - before.completed).toBe(1);
    expect(after.invalid - before.invalid).toBe(1);
  });

  it('describes itself with OpenAPI', async () => {
    const api = await json<{ openapi: string; paths: Record<string, unknown> }>(
      await fetch(`${served.url}/openapi.json`),
    );
    expect(api.openapi).toMatch(/^3\./);
    for (const path of ['/v1/images/generations', '/v1/models', '/live', '/ready', '/health', '/metrics'])
      expect(Object.keys(api.paths)).toContain(path);
  });

  it('serves a page that may run only what it brings and fetch only from here', async () => {
    const response = await fetch(served.url);
    const html = await response.text();
    const policy = response.headers.get('content-security-policy') ?? '';
    const script = /<script>([\s\S]*?)<\/script>/.exec(html)?.[1] ?? '';
    const hash = createHash('sha256').update(script).digest('base64');
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain(`script-src 'sha256-${hash}'`);
    expect(policy).not.toContain('unsafe');
    expect(html).not.toMatch(/(src|href)="(https?:)?\/\//);
    expect(html).not.toMatch(/ (style|on[a-z]+)="/);
  });

  it('returns the request id that it was given, logs it, and makes one where it is unfit for a log', async () => {
    const given = await post(
      served.url,
      { prompt: 'x', num_inference_steps: 1 },
      { headers: { 'x-request-id': 'mine-1' } },
    );
    expect(given.headers.get('x-request-id')).toBe('mine-1');
    expect(served.log.filter(({ request_id }) => request_id === 'mine-1').map(({ msg }) => msg)).toContain('images');
    const unfit = await fetch(`${served.url}/live`, { headers: { 'x-request-id': 'a b{}' } });
    expect(unfit.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('answers 404 in the shape of its other errors', async () => {
    const response = await fetch(`${served.url}/nothing`);
    expect(response.status).toBe(404);
    expect((await errorOf(response)).message).toContain('GET /nothing');
  });
});

it('is described by a config file that says where it listens', async () => {
  expect((await readFile(CONFIG, 'utf8')).length).toBeGreaterThan(0);
  expect((await testConfig()).server).toMatchObject({ host: '127.0.0.1', maxQueue: 16, drainMs: 45_000 });
});
