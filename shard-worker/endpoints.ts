/**
 * Which addresses Tandem's sockets may use: unix sockets and the loopback. What others on this machine may not do is kept from them by
 * a directory's mode or, on a port, by keys; addresses that another machine could reach are refused unless the keys were handed out for that.
 */
import { TandemError } from '../common/errors.js';

// `sun_path` has 108 bytes on Linux and 104 on macOS, one of which ends the string.
const MAX_SOCKET_PATH_BYTES = process.platform === 'darwin' ? 103 : 107;
const LOOPBACK = /^tcp:\/\/(127\.0\.0\.1|\[::1\]|localhost):(\d{1,5}|\*)$/;
const ANY_HOST = /^tcp:\/\/(\[[0-9a-f:.]+\]|[\w.-]+):(\d{1,5}|\*)$/i;
const IPC_PREFIX = 'ipc://';
const DIRECT = '.d';

/** File of an `ipc://` endpoint; undefined for other endpoints. */
export const socketPath = (endpoint: string): string | undefined =>
  endpoint.startsWith(IPC_PREFIX) ? endpoint.slice(IPC_PREFIX.length) : undefined;

/** File of the socket that the compute thread listens on, beside the worker's own, by whose file the worker is found. */
export const directPath = (path: string): string => `${path}${DIRECT}`;

/** All files that a worker's sockets have, by either of its endpoints. */
export const socketFiles = (endpoint: string): readonly string[] => {
  const path = socketPath(endpoint);
  if (path === undefined) return [];
  const own = path.endsWith(DIRECT) ? path.slice(0, -DIRECT.length) : path;
  return [own, directPath(own)];
};

const checkSocketPath = (path: string): void => {
  if (!path.startsWith('/')) {
    throw new TandemError('ENDPOINT_INVALID', `Expected an absolute path after "ipc://", found "${path}".`);
  }
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    throw new TandemError(
      'ENDPOINT_TOO_LONG',
      `A unix socket's path may have ${MAX_SOCKET_PATH_BYTES} bytes, but "${path}" has ${bytes}; set TMPDIR to a shorter directory or use transport "tcp".`,
    );
  }
};

/**
 * Accepts `ipc:///absolute/path` and `tcp://` on the loopback; the port may be `*` for any free one.
 * @param keyed whether keys keep strangers out that somebody else made: then any address will do
 * @throws TandemError `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG` or `ENDPOINT_NOT_LOCAL`
 */
export const checkEndpoint = (endpoint: string, keyed = false): void => {
  const path = socketPath(endpoint);
  if (path !== undefined) {
    checkSocketPath(path);
    return;
  }
  if (!endpoint.startsWith('tcp://')) {
    throw new TandemError('ENDPOINT_INVALID', `Expected "ipc:///path" or "tcp://127.0.0.1:port", found "${endpoint}".`);
  }
  if (keyed && !ANY_HOST.test(endpoint)) {
    throw new TandemError('ENDPOINT_INVALID', `Expected "tcp://ADDRESS:PORT", found "${endpoint}".`);
  }
  if (!keyed && !LOOPBACK.test(endpoint)) {
    throw new TandemError(
      'ENDPOINT_NOT_LOCAL',
      `"${endpoint}" can be reached from other machines, where only keys would keep strangers out; use "ipc:///path" or "tcp://127.0.0.1:port".`,
    );
  }
};
