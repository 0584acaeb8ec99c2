/** The HTTP application: who may ask, what there is to ask for, and how errors are told. */
import { randomUUID } from 'node:crypto';
import swagger from '@fastify/swagger';
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from '@fastify/type-provider-zod';
import { type FastifyBaseLogger, type FastifyInstance, type FastifyRequest, fastify, LogController } from 'fastify';
import type { Logger } from 'pino';
import { TOOL_VERSION } from '../../common/version.js';
import { checkHost, checkKey } from './auth.js';
import { type ApiError, errorBody, notFound, toApiError } from './errors.js';
import type { Front, Handler } from './front.js';
import type { ServerParts } from './parts.js';
import { addImageRoutes } from './routes/images.js';
import { addModelRoutes } from './routes/models.js';
import { addPage, type PageFile } from './routes/page.js';
import { addProbes } from './routes/probes.js';

export type App = FastifyInstance;

/** What a route says of itself. */
declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answers without an API key: probes, the page, and pictures whose address is the secret. */
    readonly open?: boolean;
    /** Asked for every few seconds by machines: logged at debug level only. */
    readonly quiet?: boolean;
  }
}

const BODY_LIMIT = 64 * 1024;
const REQUEST_ID = /^[\w.:/+=@-]{1,128}$/;

/** The client's own id where it is one that can stand in a log. */
const requestId = (header: string | string[] | undefined): string =>
  typeof header === 'string' && REQUEST_ID.test(header) ? header : randomUUID();

const logEnd = (request: FastifyRequest, status: number, ms: number): void => {
  const { quiet } = request.routeOptions.config;
  const line = { method: request.method, path: request.url.split('?')[0], status, ms: Math.round(ms) };
  if (quiet) request.log.debug(line, 'request');
  else request.log.info(line, 'request');
};

const logError = (log: FastifyBaseLogger, error: ApiError): void => {
  const { code, status, message, cause } = error;
  if (status < 500) log.debug({ code, status, problem: message }, 'refused');
  else if (status === 503) log.warn({ code, status, problem: message }, 'unavailable');
  else log.error({ code, status, err: cause ?? error }, 'failed');
};

const addGuards = (app: App, apiKey: string | undefined): void => {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    reply.header('x-content-type-options', 'nosniff');
    if (apiKey === undefined) checkHost(request.headers.host);
    else if (!request.routeOptions.config.open) checkKey(apiKey, request.headers.authorization);
  });
};

const addErrors = (app: App): void => {
  app.setErrorHandler((thrown, request, reply) => {
    const error = toApiError(thrown);
    logError(request.log, error);
    if (error.retryAfterS !== undefined) reply.header('retry-after', String(error.retryAfterS));
    if (error.status === 401) reply.header('www-authenticate', 'Bearer');
    return reply.code(error.status).send(errorBody(error));
  });
  app.setNotFoundHandler((request) => {
    throw notFound(`There is no ${request.method} ${request.url.split('?')[0]}`);
  });
};

const addDescription = async (app: App, guarded: boolean): Promise<void> => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Tandem',
        description: 'One diffusion model on several devices at once; the image routes are those of the OpenAI API.',
        version: TOOL_VERSION,
      },
      ...(guarded
        ? {
            components: { securitySchemes: { key: { type: 'http' as const, scheme: 'bearer' } } },
            security: [{ key: [] }],
          }
        : {}),
    },
    transform: jsonSchemaTransform,
  });
};

/**
 * Given these, Fastify does not load the JSON schema compilers that it comes with, which took a tenth of a warm start. Its types
 * know no others.
 */
const COMPILERS = { buildValidator: () => validatorCompiler, buildSerializer: () => serializerCompiler } as never;

export interface AppOptions {
  readonly apiKey: string | undefined;
  readonly log: Logger;
  readonly page: PageFile;
  readonly front: Front;
}

/** An application, and what answers its requests. */
export interface BuiltApp {
  readonly app: App;
  readonly handler: Handler;
}

/** Builds the application of one version. Whichever listens, requests go to the one that the front shows. The caller closes it. */
export const buildApp = async (parts: ServerParts, { apiKey, log, page, front }: AppOptions): Promise<BuiltApp> => {
  let handler: Handler = () => undefined;
  const app = fastify({
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: (request) => requestId(request.headers['x-request-id']),
    bodyLimit: BODY_LIMIT,
    serverFactory: (own) => {
      handler = own;
      return front.createServer();
    },
    schemaController: { compilersFactory: COMPILERS },
  });
  // Browsers send text/plain to other sites without asking; only what needs their consent is read.
  app.removeContentTypeParser('text/plain');
  addGuards(app, apiKey);
  addErrors(app);
  app.addHook('onResponse', async (request, reply) => logEnd(request, reply.statusCode, reply.elapsedTime));
  await addDescription(app, apiKey !== undefined);
  await app.register(async (scope) => {
    const typed = scope.withTypeProvider<ZodTypeProvider>();
    addImageRoutes(typed, parts);
    addModelRoutes(typed, parts);
    addProbes(typed, parts);
    addPage(typed, page);
    typed.get('/openapi.json', { schema: { hide: true }, config: { open: true } }, async () => app.swagger());
  });
  await app.ready();
  return { app, handler };
};
