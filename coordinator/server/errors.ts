/** The server's error catalogue: every answer that is not a success, in the shape that OpenAI's clients read. */
import { z } from 'zod';
import { statusOf } from '../../common/error-codes.js';
import { type ErrorCode, TandemError } from '../../common/errors.js';

const ERROR_TYPES = [
  'invalid_request_error',
  'authentication_error',
  'permission_error',
  'rate_limit_error',
  'service_unavailable_error',
  'server_error',
] as const;

export type ErrorType = (typeof ERROR_TYPES)[number];

/** What a client is told. */
export const errorDetail = z.object({
  message: z.string(),
  type: z.enum(ERROR_TYPES),
  param: z.string().nullable(),
  code: z.string(),
});

interface ApiErrorOptions {
  readonly param?: string;
  /** When the client may try again, in whole seconds. */
  readonly retryAfterS?: number;
  /** Methods that the path has. */
  readonly allow?: readonly string[];
  readonly problems?: readonly string[];
  readonly cause?: unknown;
}

/** An error with its HTTP status. */
export class ApiError extends TandemError {
  readonly status: number;
  readonly type: ErrorType;
  readonly param: string | undefined;
  readonly retryAfterS: number | undefined;
  readonly allow: readonly string[];

  constructor(status: number, type: ErrorType, code: ErrorCode, message: string, options: ApiErrorOptions = {}) {
    super(code, message, options);
    this.status = status;
    this.type = type;
    this.param = options.param;
    this.retryAfterS = options.retryAfterS;
    this.allow = options.allow ?? [];
  }
}

/** What a client is sent. */
export interface ErrorBody {
  readonly error: Readonly<z.infer<typeof errorDetail>>;
}

export const errorBody = ({ message, type, param, code }: ApiError): ErrorBody => ({
  error: { message, type, param: param ?? null, code },
});

/** One thing that is wrong with a request's body. */
export interface FieldProblem {
  /** Path of the field; empty for the body as a whole. */
  readonly param: string;
  readonly code: 'unknown_parameter' | 'missing_required_parameter' | 'invalid_value';
  readonly message: string;
}

/** More problems than anybody reads. */
const MAX_TOLD = 10;

/** What is wrong with a body, as much as a person may read; `param` and `code` are the first problem's. */
export const invalidBody = (problems: readonly FieldProblem[]): ApiError => {
  const more = problems.length - MAX_TOLD;
  const told = problems.slice(0, MAX_TOLD).map(({ message }) => message);
  const messages = more > 0 ? [...told, `There are ${more} more problems.`] : told;
  const [first] = problems;
  return new ApiError(400, 'invalid_request_error', first?.code ?? 'invalid_value', messages.join(' '), {
    problems: messages,
    ...(first?.param ? { param: first.param } : {}),
  });
};

export const modelNotFound = (found: string, served: string): ApiError =>
  new ApiError(
    404,
    'invalid_request_error',
    'model_not_found',
    `Expected the model "${served}", the one that is served; found "${found}". Leave the field out or name that model.`,
    { param: 'model' },
  );

export const unauthorized = (found: 'none' | 'wrong'): ApiError =>
  new ApiError(
    401,
    'authentication_error',
    'invalid_api_key',
    `Expected "Authorization: Bearer KEY" with the server's API key; found ${found === 'none' ? 'none' : 'another key'}.`,
  );

/** A name that resolves to this machine may be an attacker's: a web page could then use the server through a browser. */
export const hostRefused = (host: string): ApiError =>
  new ApiError(
    403,
    'permission_error',
    'host_not_allowed',
    `Expected the Host header to name this machine (localhost or a loopback address) as no API key is set; found "${host}". Set server.api_key_env to use another name.`,
  );

export const queueFull = (maxQueue: number, retryAfterS: number): ApiError =>
  new ApiError(
    429,
    'rate_limit_error',
    'queue_full',
    `All ${maxQueue} places in the queue are taken; one should be free in about ${retryAfterS} s. Try again then.`,
    { retryAfterS },
  );

export const shareTaken = (share: number, retryAfterS: number): ApiError =>
  new ApiError(
    429,
    'rate_limit_error',
    'client_share_taken',
    `This client has ${share} requests under way, its share of the queue; one should be done in about ${retryAfterS} s. Try again then.`,
    { retryAfterS },
  );

export const notReady = (why: string, retryAfterS: number): ApiError =>
  new ApiError(503, 'service_unavailable_error', 'not_ready', `No picture can be made yet: ${why}.`, { retryAfterS });

export const draining = (retryAfterS: number): ApiError =>
  new ApiError(
    503,
    'service_unavailable_error',
    'draining',
    'The server is being stopped and takes no new requests; try again once it, or another one, is ready.',
    { retryAfterS },
  );

/** A request that a stop of the server ended before its picture was done. */
export const stopped = (): ApiError =>
  new ApiError(
    503,
    'service_unavailable_error',
    'stopped',
    'The server was stopped before the picture was done; send the request again once it is back.',
  );

/** The client went away: nobody reads this one, but logs and metrics tell it apart. */
export const clientGone = (): ApiError =>
  new ApiError(499, 'invalid_request_error', 'client_closed_request', 'The client closed the connection.');

export const noPictures = (model: string): ApiError =>
  new ApiError(
    501,
    'invalid_request_error',
    'no_pipeline',
    `"${model}" is a single .onnx file: without a text encoder and a VAE it makes no pictures. Serve a diffusers-layout directory.`,
  );

export const notFound = (what: string): ApiError =>
  new ApiError(404, 'invalid_request_error', 'not_found', `${what}; /openapi.json lists what there is.`);

export const imagesUnwritable = (directory: string, cause: unknown): ApiError =>
  new ApiError(
    503,
    'service_unavailable_error',
    'images_unwritable',
    `The picture could not be kept in ${directory} (server.images). Ask for "response_format": "b64_json", or make room there.`,
    { cause },
  );

export const methodNotAllowed = (method: string, path: string, allow: readonly string[]): ApiError =>
  new ApiError(
    405,
    'invalid_request_error',
    'method_not_allowed',
    `${path} takes ${allow.join(' and ')}; found ${method}.`,
    { allow },
  );

export const imageGone = (lifetimeS: number): ApiError =>
  new ApiError(
    404,
    'invalid_request_error',
    'image_expired',
    `There is no picture under this address; one holds for ${lifetimeS} s, and less when many are made. Ask for b64_json to keep it.`,
  );

const CLIENT_ERROR_CODES: Readonly<Record<number, ErrorCode>> = {
  413: 'body_too_large',
  415: 'unsupported_media_type',
};

/** What cannot be read as HTTP, by the parser's codes. */
const MALFORMED: Readonly<Record<string, readonly [status: number, reason: string, message: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'The request took too long to arrive.'],
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'The headers are larger than 16 KB.'],
};

/** The bytes of an answer to what is no HTTP request: there is no request to reply to. */
export const malformedAnswer = (code: string | undefined): string => {
  const [status, reason, message] = MALFORMED[code ?? ''] ?? [400, 'Bad Request', 'Expected an HTTP/1.1 request.'];
  const body = JSON.stringify(errorBody(new ApiError(status, 'invalid_request_error', 'malformed_request', message)));
  const head = [`HTTP/1.1 ${status} ${reason}`, `content-length: ${body.length}`, 'content-type: application/json'];
  return [...head, 'connection: close', '', body].join('\r\n');
};

/** What Fastify itself refuses: no JSON, another media type, too large a body. */
const fromFramework = (error: Error): ApiError | undefined => {
  const status = Reflect.get(error, 'statusCode');
  if (typeof status !== 'number' || status < 400 || status > 499) return undefined;
  const code = CLIENT_ERROR_CODES[status] ?? 'invalid_request';
  return new ApiError(status, 'invalid_request_error', code, `${error.message}.`.replace(/\.\.$/, '.'), {
    cause: error,
  });
};

/** Any error as one that can be sent; what is unforeseen says nothing of its inside. */
export const toApiError = (error: unknown): ApiError => {
  if (error instanceof ApiError) return error;
  if (error instanceof TandemError) {
    if (error.code === 'REQUEST_INVALID')
      return new ApiError(400, 'invalid_request_error', 'invalid_value', error.message, { problems: error.problems });
    const status = statusOf(error.code);
    const type = status === 503 ? 'service_unavailable_error' : 'server_error';
    return new ApiError(status, type, error.code, error.message, { cause: error });
  }
  const known = error instanceof Error ? fromFramework(error) : undefined;
  const message = 'The server failed in a way that it does not foresee; its log has the reason under this request id.';
  return known ?? new ApiError(500, 'server_error', 'internal_error', message, { cause: error });
};
