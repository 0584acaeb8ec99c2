/** Who may ask: an API key, or without one only this machine under its own name. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { TandemError } from '../../common/errors.js';
import type { ServerConfig } from '../config/index.js';
import { hostRefused, unauthorized } from './errors.js';

const MIN_KEY_LENGTH = 16;

/**
 * The key that requests must carry; undefined where none is asked for.
 * @throws TandemError `SERVER_API_KEY` where the named variable holds no usable key
 */
export const resolveApiKey = (config: ServerConfig, environment: NodeJS.ProcessEnv): string | undefined => {
  if (config.apiKeyVariable === undefined) return config.apiKey;
  const key = environment[config.apiKeyVariable] ?? '';
  if (key.length >= MIN_KEY_LENGTH) return key;
  const found = key === '' ? 'it is not set' : `it has ${key.length}`;
  throw new TandemError(
    'SERVER_API_KEY',
    `Expected an API key of at least ${MIN_KEY_LENGTH} characters in the environment variable ${config.apiKeyVariable} (server.api_key_env); ${found}.`,
  );
};

// Digests have one length, whatever was sent, so that the time of the comparison tells nothing of the key.
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Checks the `Authorization` header. @throws ApiError 401 */
export const checkKey = (expected: string, authorization: string | undefined): void => {
  const [, found] = /^Bearer +(\S+)$/i.exec(authorization ?? '') ?? [];
  if (found === undefined) throw unauthorized('none');
  if (!timingSafeEqual(digest(found), digest(expected))) throw unauthorized('wrong');
};

const OWN_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/** Checks the `Host` header of a server without a key. @throws ApiError 403 */
export const checkHost = (host: string | undefined): void => {
  if (host === undefined || !OWN_NAME.test(host)) throw hostRefused(host ?? '');
};

/** `http://127.0.0.1:8080` */
export const urlOf = (host: string, port: number): string => `http://${isIPv6(host) ? `[${host}]` : host}:${port}`;
