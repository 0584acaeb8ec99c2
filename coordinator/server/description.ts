/**
 * `/openapi.json`: the routes' own schemas, and what holds for all of them. Refusals have one shape and depend on what a route
 * takes, so they are added here instead of at each route.
 */
import swagger from '@fastify/swagger';
import { jsonSchemaTransform } from '@fastify/type-provider-zod';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { TOOL_VERSION } from '../../common/version.js';
import { errorDetail } from './errors.js';
import { streamEvent } from './routes/image-answer.js';

type Json = Readonly<Record<string, unknown>>;

/** The parts of an operation that are looked at or completed. */
interface Operation extends Json {
  readonly requestBody?: unknown;
  readonly parameters?: unknown;
  readonly operationId?: string;
  readonly responses?: Json;
  readonly security?: readonly Json[];
}

type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>;

const refusal = (description: string): Json => ({
  description,
  content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
});

const REFUSALS = {
  BadRequest: refusal('The request cannot be met; the message names the field, what was expected and what was found'),
  Unauthorized: refusal('No API key, or another one'),
  HostRefused: refusal('The Host header names another machine, and no API key is set'),
  NotFound: refusal('There is nothing under this name or address'),
  TooLarge: refusal('The body is larger than 64 KiB'),
  NotJson: refusal('The body is no JSON'),
  QueueFull: refusal('The queue, or the share of this client, is full; Retry-After says when to try again'),
  Failed: refusal('The workers failed; the log has the reason under the request id'),
  NoPictures: refusal('The served model makes no pictures'),
  Unavailable: refusal('No picture can be made now; Retry-After says when to try again'),
} as const;

type Refusal = keyof typeof REFUSALS;

const refusalsOf = (operation: Operation, guarded: boolean): Readonly<Record<number, Refusal>> => ({
  ...(guarded ? (operation.security?.length === 0 ? {} : { 401: 'Unauthorized' }) : { 403: 'HostRefused' }),
  ...(operation.parameters === undefined ? {} : { 404: 'NotFound' }),
  ...(operation.requestBody === undefined
    ? { 400: 'BadRequest' }
    : {
        400: 'BadRequest',
        404: 'NotFound',
        413: 'TooLarge',
        415: 'NotJson',
        429: 'QueueFull',
        500: 'Failed',
        501: 'NoPictures',
        503: 'Unavailable',
      }),
});

const text = (type: string, schema: Json = { type: 'string' }): Json => ({ [type]: { schema } });
const binary = { type: 'string', format: 'binary' };

/** Answers that are not JSON, by operation. */
const OTHER_CONTENT: Readonly<Record<string, Json>> = {
  createImage: text('text/event-stream', { $ref: '#/components/schemas/StreamEvent' }),
  getImage: { ...text('image/png', binary), ...text('image/jpeg', binary), ...text('image/webp', binary) },
  getMetrics: text('text/plain'),
};

const successOf = ({ operationId = '', responses = {} }: Operation): Json => {
  const other = OTHER_CONTENT[operationId];
  const own = (responses[200] ?? {}) as { readonly content?: Json };
  const content = { ...own.content, ...other };
  return { description: 'Done', ...(Object.keys(content).length > 0 ? { content } : {}) };
};

const complete = (operation: Operation, guarded: boolean): Operation => {
  const refusals = Object.entries(refusalsOf(operation, guarded)).map(([status, name]) => [
    status,
    { $ref: `#/components/responses/${name}` },
  ]);
  const own = { ...operation.responses, 200: successOf(operation) };
  return { ...operation, responses: { ...Object.fromEntries(refusals), ...own } };
};

const completeAll = (paths: Paths, guarded: boolean): Paths =>
  Object.fromEntries(
    Object.entries(paths).map(([path, operations]) => [
      path,
      Object.fromEntries(
        Object.entries(operations).map(([method, operation]) => [method, complete(operation, guarded)]),
      ),
    ]),
  );

const schemaOf = (schema: z.ZodType): Json => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: 'draft-2020-12', io: 'output' });
  return rest;
};

/** Those that no operation names would only puzzle. */
const namedIn = (document: string): Json =>
  Object.fromEntries(Object.entries(REFUSALS).filter(([name]) => document.includes(`/responses/${name}"`)));

const describe = (own: Json, guarded: boolean): Json => {
  const paths = completeAll(own.paths as Paths, guarded);
  return {
    ...own,
    paths,
    servers: [{ url: '/' }],
    ...(guarded ? { security: [{ key: [] }] } : { security: [] }),
    components: {
      ...(guarded ? { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } } : {}),
      responses: namedIn(JSON.stringify(paths)),
      schemas: { Error: schemaOf(z.object({ error: errorDetail })), StreamEvent: schemaOf(streamEvent) },
    },
  };
};

/** @param guarded whether an API key is asked for */
export const addDescription = async (app: FastifyInstance, guarded: boolean): Promise<void> => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Tandem',
        description: 'One diffusion model on several devices at once; the image routes are those of the OpenAI API.',
        version: TOOL_VERSION,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
    },
    transform: ({ route, ...document }) => {
      const { schema, url } = jsonSchemaTransform({ route, ...document } as Parameters<typeof jsonSchemaTransform>[0]);
      return { schema: { ...schema, ...(route.config?.open ? { security: [] } : {}) }, url };
    },
    transformObject: (document) =>
      describe('openapiObject' in document ? { ...document.openapiObject } : {}, guarded) as never,
  });
};
