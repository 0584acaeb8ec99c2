/** `POST /v1/images/generations`, as one answer or as server-sent events, and the pictures that are asked for by address. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { MEDIA_TYPES, PICTURE_FORMATS } from '../../pipeline/index.js';
import { type ApiError, clientGone, imageGone, toApiError } from '../errors.js';
import { EventStream } from '../event-stream.js';
import { checkImageBody, type ImageBody, ignoredFields, imageBodySchema, pixelsOf } from '../image-body.js';
import { IMAGE_LIFETIME_S } from '../image-store.js';
import type { Outcome } from '../metrics.js';
import type { ServerParts, TypedApp } from '../route-context.js';
import { sizeName } from '../sizes.js';
import {
  type AnswerContext,
  type ImageAnswer,
  imageAnswer,
  type MadeImage,
  toAnswer,
  toStreamEvent,
} from './image-answer.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** The body's fields as they were sent, without defaults. */
    sentFields: Readonly<Record<string, unknown>>;
  }
}

type ImageRequest = FastifyRequest & { readonly body: ImageBody };

const outcomeOf = (error: ApiError): Outcome => {
  if (error.status === clientGone().status) return 'cancelled';
  if (error.status === 429 || error.status === 503) return 'rejected';
  return error.status < 500 ? 'invalid' : 'failed';
};

/** Counts and logs how a request ended. */
const recorder = ({ metrics }: ServerParts, request: FastifyRequest, body: ImageBody) => {
  const start = performance.now();
  return (error?: ApiError): void => {
    const ms = performance.now() - start;
    const outcome = error === undefined ? 'completed' : outcomeOf(error);
    if (outcome === 'completed') metrics.requestTook(ms);
    metrics.requestEnded(outcome);
    const { n, num_inference_steps: steps, stream, user } = body;
    request.log.info({ outcome, code: error?.code, n, steps, stream, user, ms: Math.round(ms) }, 'images');
  };
};

/** RFC 9111 has no Warning header any more; this one carries what it carried, as a list of strings. */
const IGNORED_HEADER = 'tandem-warning';

const contextOf = (parts: ServerParts, request: ImageRequest): AnswerContext => ({
  body: request.body,
  size: sizeName(pixelsOf(request.body, parts.served)),
  origin: `${request.protocol}://${request.host}`,
  ignored: ignoredFields(request.body, request.sentFields),
});

const warningHeader = ({ ignored }: AnswerContext): Readonly<Record<string, string>> =>
  ignored.length === 0 ? {} : { [IGNORED_HEADER]: ignored.map((text) => JSON.stringify(text)).join(', ') };

const answerWhole = async (parts: ServerParts, request: ImageRequest, reply: FastifyReply): Promise<ImageAnswer> => {
  const { body } = request;
  const record = recorder(parts, request, body);
  const made: MadeImage[] = [];
  try {
    await parts.requests.watch(reply.raw, async (signal) => {
      await parts.studio.admit(body, request.ip, signal).run((event) => {
        if (event.kind === 'image') made.push(event);
      });
    });
    record();
    const context = contextOf(parts, request);
    reply.headers(warningHeader(context));
    return toAnswer(made, context);
  } catch (thrown) {
    const error = toApiError(thrown);
    record(error);
    throw error;
  }
};

/** Once the stream has begun its status is sent: an error is its last event. */
const answerStream = async (parts: ServerParts, request: ImageRequest, reply: FastifyReply): Promise<void> => {
  const { body } = request;
  const record = recorder(parts, request, body);
  const context = contextOf(parts, request);
  let stream: EventStream | undefined;
  try {
    await parts.requests.watch(reply.raw, async (signal) => {
      const job = parts.studio.admit(body, request.ip, signal);
      reply.hijack();
      const begun = new EventStream(reply.raw, { 'x-request-id': request.id, ...warningHeader(context) });
      stream = begun;
      await job.run((event) => begun.send(toStreamEvent(event, context), event.kind === 'partial'));
      await begun.end('[DONE]');
    });
    record();
  } catch (thrown) {
    const error = toApiError(thrown);
    record(error);
    if (stream === undefined) throw error;
    await stream.fail(error);
  }
};

const addStored = (app: TypedApp, { images }: ServerParts): void => {
  app.get(
    '/images/:file',
    {
      config: { open: true },
      schema: {
        summary: 'A picture by the address that a request was given',
        operationId: 'getImage',
        params: z.object({ file: z.string() }),
        querystring: z.object({ expires: z.coerce.number().int().catch(0), signature: z.string().catch('') }),
      },
    },
    async ({ params, query }, reply) => {
      const picture = await images.get(params.file, query);
      if (picture === undefined) throw imageGone(IMAGE_LIFETIME_S);
      const format = PICTURE_FORMATS.find((candidate) => params.file.endsWith(`.${candidate}`)) ?? 'png';
      return reply.header('cache-control', 'private, no-store').type(MEDIA_TYPES[format]).send(picture);
    },
  );
};

export const addImageRoutes = (app: TypedApp, parts: ServerParts): void => {
  const { served, metrics } = parts;
  const schema = imageBodySchema(served);
  app.decorateRequest('sentFields');
  app.addHook('preValidation', async (request) => {
    const { body } = request;
    request.sentFields = typeof body === 'object' && body !== null ? { ...body } : {};
  });
  app.post(
    '/v1/images/generations',
    {
      schema: {
        summary: 'Makes pictures',
        operationId: 'createImage',
        description: 'With "stream": true the answer is server-sent events. A field that is null counts as left out.',
        body: schema,
        response: { 200: imageAnswer },
      },
      validatorCompiler: () => (raw: unknown) => {
        const checked = checkImageBody(schema, served, raw);
        if ('error' in checked) metrics.requestEnded('invalid');
        return checked;
      },
    },
    async (request, reply) => {
      if (!request.body.stream) return answerWhole(parts, request, reply);
      await answerStream(parts, request, reply);
      return reply;
    },
  );
  addStored(app, parts);
};
