/** `POST /v1/images/generations`, as one answer or as server-sent events, and the pictures that are asked for by address. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { type ApiError, clientGone, imageGone, toApiError } from '../errors.js';
import { EventStream } from '../event-stream.js';
import { checkImageBody, type ImageBody, imageBodySchema } from '../image-body.js';
import { IMAGE_LIFETIME_S } from '../image-store.js';
import type { Outcome } from '../metrics.js';
import type { ServerParts, TypedApp } from '../parts.js';
import {
  type ImageAnswer,
  imageAnswer,
  type MadeImage,
  type Publish,
  toAnswer,
  toStreamEvent,
} from './image-answer.js';

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

const publisher =
  ({ images }: ServerParts, request: FastifyRequest): Publish =>
  (png) =>
    `${request.protocol}://${request.host}/images/${images.add(png)}.png`;

const answerWhole = async (
  parts: ServerParts,
  request: FastifyRequest,
  reply: FastifyReply,
  body: ImageBody,
): Promise<ImageAnswer> => {
  const record = recorder(parts, request, body);
  const made: MadeImage[] = [];
  try {
    await parts.requests.watch(reply.raw, async (signal) => {
      await parts.studio.admit(body, request.ip, signal).run((event) => {
        if (event.kind === 'image') made.push(event);
      });
    });
    record();
    return toAnswer(made, body, parts.size, publisher(parts, request));
  } catch (thrown) {
    const error = toApiError(thrown);
    record(error);
    throw error;
  }
};

/** Once the stream has begun its status is sent: an error is its last event. */
const answerStream = async (
  parts: ServerParts,
  request: FastifyRequest,
  reply: FastifyReply,
  body: ImageBody,
): Promise<void> => {
  const record = recorder(parts, request, body);
  const publish = publisher(parts, request);
  let stream: EventStream | undefined;
  try {
    await parts.requests.watch(reply.raw, async (signal) => {
      const job = parts.studio.admit(body, request.ip, signal);
      reply.hijack();
      const begun = new EventStream(reply.raw, { 'x-request-id': request.id });
      stream = begun;
      await job.run((event) => begun.send(toStreamEvent(event, body, parts.size, publish), event.kind === 'partial'));
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

export const addImageRoutes = (app: TypedApp, parts: ServerParts): void => {
  const { served, metrics, images } = parts;
  const schema = imageBodySchema(served);
  app.post(
    '/v1/images/generations',
    {
      schema: {
        summary: 'Makes pictures',
        description:
          'With "stream": true the answer is server-sent events: queued, progress, partial_image, completed.',
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
      const { body } = request;
      if (!body.stream) return answerWhole(parts, request, reply, body);
      await answerStream(parts, request, reply, body);
      return reply;
    },
  );

  app.get(
    '/images/:file',
    {
      config: { open: true },
      schema: { summary: 'A picture by the address that a request was given', params: z.object({ file: z.string() }) },
    },
    async ({ params }, reply) => {
      const png = images.get(params.file.replace(/\.png$/, ''));
      if (png === undefined) throw imageGone(IMAGE_LIFETIME_S);
      return reply.header('cache-control', 'private, no-store').type('image/png').send(Buffer.from(png));
    },
  );
};
