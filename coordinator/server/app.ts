/** The HTTP application: who may ask, what there is to ask for, and how errors are told. */
import { randomUUID } from 'node:crypto';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from '@fastify/type-provider-zod';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import { checkHost, checkKey } from './auth.js';
import { addDescription } from './description.js';
import { type ApiError, errorBody, malformedAnswer, methodNotAllowed, notFound, toApiError } from './errors.js';
import type { Front, Handler } from './front.js';
import type { ServerParts } from './route-context.js';
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

const MAX_LOGGED_PATH = 256;

const pathOf = ({ url }: FastifyRequest): string => url.split('?')[0] ?? url;

const logEnd = (request: FastifyRequest, status: number, ms: number): void => {
  const { quiet } = request.routeOptions.config;
  const line = { method: request.method, path: pathOf(request).slice(0, MAX_LOGGED_PATH), status, ms: Math.round(ms) };
  if (quiet) request.log.debug(line, 'request');
  else request.log.info(line, 'request');
};

const logError = (log: FastifyBaseLogger, error: ApiError): void => {
  const { code, status, message, cause } = error;
  if (status < 500) log.debug({ code, status, problem: message }, 'refused');
  else if (status === 503) log.warn({ code, status, problem: message }, 'unavailable');
  else log.error({ code, status, err: cause ?? error }, 'failed');
};

type Guard = (request: FastifyRequest, reply: FastifyReply) => void;

/** @returns what lets a request in, or throws */
const createGuard =
  (apiKey: string | undefined): Guard =>
  (request, reply) => {
    reply.header('x-request-id', request.id);
    reply.header('x-content-type-options', 'nosniff');
    if (apiKey === undefined) checkHost(request.headers.host);
    else if (!request.routeOptions.config.open) checkKey(apiKey, request.headers.authorization);
  };

const sendError = (thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
  const error = toApiError(thrown);
  logError(request.log, error);
  if (error.retryAfterS !== undefined) reply.header('retry-after', String(error.retryAfterS));
  if (error.status === 401) reply.header('www-authenticate', 'Bearer');
  if (error.allow.length > 0) reply.header('allow', error.allow.join(', '));
  return reply
    .code(error.status)
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(errorBody(error)));
};

/** What the router itself refuses passes no hook: the guard comes first all the same, and the answer has the shape of all others. */
const routerError =
  (guard: Guard) =>
  (refused: Error, request: FastifyRequest, reply: FastifyReply): void => {
    try {
      guard(request, reply);
      sendError(refused, request, reply);
    } catch (error) {
      sendError(error, request, reply);
    }
  };

/** Paths with their methods, to tell a wrong method from a wrong path. */
class KnownPaths {
  readonly #methods = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>();

  add(url: string, methods: string | readonly string[]): void {
    const pattern = new RegExp(`^${url.replace(/[.]/g, '\\.').replace(/:[^/]+/g, '[^/]+')}$`);
    const known = this.#methods.get(url) ?? { pattern, methods: new Set<string>() };
    this.#methods.set(url, known);
    for (const method of [methods].flat()) known.methods.add(method);
  }

  methodsOf(path: string): readonly string[] {
    const known = [...this.#methods.values()].find(({ pattern }) => pattern.test(path));
    return [...(known?.methods ?? [])];
  }
}

const addErrors = (app: App): void => {
  app.setErrorHandler(sendError);
  const paths = new KnownPaths();
  app.addHook('onRoute', ({ url, method }) => paths.add(url, method));
  app.setNotFoundHandler((request) => {
    const path = pathOf(request);
    const allowed = paths.methodsOf(path);
    throw allowed.length > 0
      ? methodNotAllowed(request.method, path, allowed)
      : notFound(`There is no ${request.method} ${path}`);
  });
};

/**
 * Given these, Fastify does not load the JSON schema compilers that it comes with, which took a tenth of a warm start. Its types
 * know no others.
 */
const COMPILERS = { buildValidator: () => validatorCompiler, buildSerializer: () => serializerCompiler } as never;

export interface AppOptions {
  readonly apiKey: string | undefined;
  /** Proxies whose `X-Forwarded-*` headers are believed. */
  readonly trustProxy: readonly string[];
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
export const buildApp = async (parts: ServerParts, options: AppOptions): Promise<BuiltApp> => {
  const { apiKey, trustProxy, log, page, front } = options;
  let handler: Handler = () => undefined;
  const guard = createGuard(apiKey);
  const app = fastify({
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: (request) => requestId(request.headers['x-request-id']),
    bodyLimit: BODY_LIMIT,
    trustProxy: trustProxy.length > 0 && [...trustProxy],
    // A server that is being stopped says so itself, in its own words.
    return503OnClosing: false,
    frameworkErrors: routerError(guard),
    clientErrorHandler: (error, socket) => socket.writable && socket.end(malformedAnswer(error.code)),
    serverFactory: (own) => {
      handler = own;
      return front.createServer();
    },
    schemaController: { compilersFactory: COMPILERS },
  });
  // Browsers send text/plain to other sites without asking; only what needs their consent is read.
  app.removeContentTypeParser('text/plain');
  app.addHook('onRequest', async (request, reply) => guard(request, reply));
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
