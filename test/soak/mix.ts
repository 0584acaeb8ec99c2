/** What clients do to a server in the course of an hour, as a table; an entry says what it expects, and throws where it is not so. */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { events, type ImageAnswer, json, post } from '../server/helpers.js';
import { ask, open, postBytes } from '../server/raw.js';

const STEPS = 4;
const PROMPTS = ['a red apple', 'a smiling face', 'a blue car'];
const OTHER_SIZES = ['80x64', '64x80', '96x64'];
const SIZES = ['64x64', '64x64', ...OTHER_SIZES];

const expectThat = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(what);
};

/** Pictures by what was asked for: the same request has the same picture, in the first minute as in the last. */
const pictures = new Map<string, string>();

const isAsBefore = (asked: string, picture: string): void => {
  const digest = createHash('sha256').update(picture).digest('hex');
  const before = pictures.get(asked) ?? digest;
  pictures.set(asked, before);
  expectThat(before === digest, `Another picture than before for ${asked}.`);
};

const bodyOf = (turn: number, more: object = {}) => ({
  prompt: PROMPTS[turn % PROMPTS.length] ?? '',
  seed: turn % 2,
  num_inference_steps: STEPS,
  response_format: 'b64_json',
  ...more,
});

const picture = async (url: string, turn: number, more: object = {}): Promise<void> => {
  const body = bodyOf(turn, more);
  const response = await post(url, body);
  const text = await response.text();
  expectThat(response.status === 200, `Status ${response.status} for ${JSON.stringify(body)}: ${text}`);
  const answer: ImageAnswer = JSON.parse(text);
  isAsBefore(JSON.stringify(body), answer.data.map((one) => one.b64_json).join());
};

/** A size's first picture makes its shards, in the server's own process: no part of growing old. */
export const prepare = async (url: string): Promise<void> => {
  for (const size of OTHER_SIZES) await picture(url, 0, { size });
};

const pictureByAddress = async (url: string, turn: number): Promise<void> => {
  const response = await post(url, bodyOf(turn, { response_format: 'url' }));
  const [made] = (await json<ImageAnswer>(response)).data;
  const read = await fetch(made?.url ?? '');
  expectThat(read.status === 200 && (await read.arrayBuffer()).byteLength > 0, 'A picture had no address.');
};

const streamed = async (url: string, turn: number): Promise<void> => {
  const types: string[] = [];
  for await (const { type } of events(await post(url, bodyOf(turn, { stream: true, partial_images: 2 }))))
    types.push(type);
  expectThat(types.at(-1) === 'image_generation.completed', `A stream ended with ${types.at(-1)}.`);
};

const leaves = async (url: string, turn: number): Promise<void> => {
  const signal = AbortSignal.timeout(10 + ((turn * 37) % 200));
  await post(url, bodyOf(turn, { num_inference_steps: 20, stream: turn % 2 === 0 }), { signal })
    .then((response) => response.text())
    .catch(() => undefined);
};

/** Ten requests sent ahead on a connection that is closed at once. */
const leavesManyBehind = async (url: string, turn: number): Promise<void> => {
  const socket = await open(url);
  socket.write(postBytes(bodyOf(turn)).repeat(10));
  await delay(50);
  socket.destroy();
};

const isRefused = async (url: string, turn: number): Promise<void> => {
  const bodies = [{ prompt: 5 }, { prompt: 'x', size: '63x64' }, { prompt: 'x', wish: 1 }, [], 'x'.repeat(5000)];
  const { status } = await post(url, bodies[turn % bodies.length]);
  expectThat(status === 400, `Status ${status} for a bad request.`);
};

const isUnknown = async (url: string): Promise<void> => {
  const { status } = await ask(url, '/v1/nothing', { method: 'DELETE' });
  expectThat(status === 404, `Status ${status} for an unknown address.`);
};

const probes = async (url: string): Promise<void> => {
  for (const path of ['/live', '/ready', '/health', '/metrics', '/openapi.json', '/v1/models', '/']) {
    const response = await fetch(`${url}${path}`);
    expectThat(response.status === 200 && (await response.text()) !== '', `Status ${response.status} of ${path}.`);
  }
};

type Deed = (url: string, turn: number) => Promise<void>;

export const MIX: Readonly<Record<string, Deed>> = {
  picture,
  'another size': (url, turn) => picture(url, turn, { size: SIZES[Math.floor(turn / 3) % SIZES.length] }),
  'two pictures as jpeg': (url, turn) => picture(url, turn, { n: 2, output_format: 'jpeg' }),
  'a picture as webp': (url, turn) => picture(url, turn, { output_format: 'webp' }),
  'a picture by address': pictureByAddress,
  'a stream': streamed,
  'a client that leaves': leaves,
  'a client that leaves ten requests behind': leavesManyBehind,
  'a bad request': isRefused,
  'an unknown address': isUnknown,
  'probes and metrics': probes,
};
