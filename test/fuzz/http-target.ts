/**
 * HTTP as strangers may speak it: requests with parts that are not as they should be, several sent ahead on one connection, to a real
 * server with a real worker. Good are answers of 200 to 499, 501 and 503, an error in the one shape of errors, and a connection that
 * is closed; an answer of 500, a missing one, and a server that is gone are not.
 */
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { type Served, startReady } from '../server/helpers.js';
import { open } from '../server/raw.js';

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

/** Requests that one connection sends ahead. */
export const AHEAD = 8;

const PATHS = ['/v1/images/generations', '/v1/models', '/v1/models/x', '/live', '/ready', '/health', '/metrics'];
const MORE_PATHS = ['/', '/openapi.json', '/images/x.png?expires=1&signature=0', '/page.js', '/v1', '//', '/%00', '/%'];

const BODY = {
  prompt: 'a red apple',
  negative_prompt: 'blue',
  model: 'emoji-sd',
  n: 0,
  size: '64x64',
  response_format: 'b64_json',
  output_format: 'png',
  output_compression: 50,
  quality: 'auto',
  user: 'x',
  num_inference_steps: 1,
  guidance_scale: 1,
  seed: 1,
  stream: false,
  partial_images: 0,
};

const ascii = fc.string({ unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)) });
const odd = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    -1,
    1e9,
    1e30,
    2 ** 53,
    0.5,
    [],
    {},
    'x'.repeat(5000),
    '63x64',
    'auto',
    '\0',
  ),
  fc.jsonValue({ maxDepth: 2 }),
  fc.string(),
);

const field = fc.oneof(fc.constantFrom(...Object.keys(BODY)), fc.string());
const fields = fc.array(fc.tuple(field, odd), { maxLength: 3 });
const depth = fc.integer({ min: 1, max: 5000 });
const bodies = fc.oneof(
  fields.map((changes) => JSON.stringify({ ...BODY, ...Object.fromEntries(changes) })),
  fc
    .tuple(fields, fc.nat(300))
    .map(([changes, end]) => JSON.stringify({ ...BODY, ...Object.fromEntries(changes) }).slice(0, end)),
  depth.map((levels) => '['.repeat(levels) + ']'.repeat(levels)),
  depth.map((levels) => `{"a":`.repeat(levels)),
  fc.string(),
  fc.constant(''),
);

const header = fc.tuple(
  fc.constantFrom(
    'content-type',
    'host',
    'x-request-id',
    'authorization',
    'accept',
    'expect',
    'origin',
    'x-forwarded-for',
    'range',
    'te',
  ),
  fc.oneof(
    fc.constantFrom(
      'application/json',
      'text/plain',
      'application/json; charset=utf-16',
      'localhost',
      'evil.example',
      'localhost:99999',
      '127.0.0.1',
      '100-continue',
      'Bearer x',
      'multipart/form-data',
      'gzip',
    ),
    ascii,
  ),
);

const request: fc.Arbitrary<HttpRequest> = fc.record({
  method: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom('POST', 'GET') },
    fc.constantFrom('PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD', 'TRACE', 'PROPFIND', 'get', 'X'),
  ),
  path: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...PATHS) },
    fc.constantFrom(...MORE_PATHS),
    fc.tuple(fc.constantFrom(...PATHS), ascii).map(([path, more]) => path + more),
    ascii.map((path) => `/${path}`),
  ),
  headers: fc.array(header, { maxLength: 3 }),
  body: bodies,
});

const HEADERS: readonly (readonly [string, string])[] = [
  ['host', 'localhost'],
  ['content-type', 'application/json'],
];

const bytesOf = ({ method, path, headers, body }: HttpRequest): string => {
  const own = headers.map(([name]) => name);
  const given = [...HEADERS.filter(([name]) => !own.includes(name)), ...headers];
  const lines = given.map(([name, value]) => `${name}: ${value}`);
  return [`${method} ${path} HTTP/1.1`, ...lines, `content-length: ${Buffer.byteLength(body)}`, '', body].join('\r\n');
};

const LAST = 'GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n';

/** How often each status was answered, to see that strangers get further than the door. */
const answers = new Map<number, number>();

export const httpAnswers = (): string =>
  [...answers]
    .toSorted(([a], [b]) => a - b)
    .map(([status, count]) => `${status}: ${count}`)
    .join(', ');

let served: Promise<Served> | undefined;

/** Pictures of other sizes take workers of their own, which is no matter of HTTP. */
export const openHttp = (): Promise<Served> => {
  served ??= startReady({}, { residentSizes: 0 });
  return served;
};

export const closeHttp = async (): Promise<void> => {
  await (await served)?.stop();
  served = undefined;
};

const takeHttp = async (requests: readonly HttpRequest[]): Promise<void> => {
  const { url } = await openHttp();
  const socket = await open(url);
  socket.write(requests.map(bytesOf).join('') + LAST);
  const answer = await text(socket);
  const statuses = [...answer.matchAll(/(?:^|[}\n>])HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
  for (const status of statuses) answers.set(status, (answers.get(status) ?? 0) + 1);
  if (statuses.length === 0) throw new Error('No answer.');
  if (statuses.includes(500)) throw new Error(`An answer of 500: ${answer.slice(answer.indexOf('HTTP/1.1 500'), 600)}`);
};

export const httpTarget = { inputs: fc.array(request, { minLength: AHEAD, maxLength: AHEAD }), take: takeHttp };
