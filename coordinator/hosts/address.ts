/** By which of its addresses other hosts reach this one. */
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { TandemError } from '../../common/errors.js';

const TCP = /^tcp:\/\/(\[[^\]]+\]|[^:]+):(\d+)$/;

/** Host and port of `tcp://HOST:PORT`. */
export const partsOf = (endpoint: string): { readonly host: string; readonly port: number } => {
  const [, host = '', port = '0'] = TCP.exec(endpoint) ?? [];
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) };
};

const CONNECT_MS = 1000;

/** The address from which this host speaks to another; undefined while that one does not listen. */
export const addressTowards = (endpoint: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = connect({ ...partsOf(endpoint), timeout: CONNECT_MS });
    const end = (address?: string): void => {
      resolve(address);
      socket.destroy();
    };
    socket.once('connect', () => end(socket.localAddress?.replace(/^::ffff:/, '')));
    socket.once('timeout', () => end());
    socket.once('error', () => end());
  });

const UNSPECIFIED: readonly string[] = ['0.0.0.0', '::', '*'];

/**
 * The address of a host that listens at an endpoint: that one, or its first that is not the loopback.
 * @throws TandemError `HOST_ADDRESS`
 */
export const addressAt = (endpoint: string): string => {
  const { host } = partsOf(endpoint);
  if (!UNSPECIFIED.includes(host)) return host;
  const all = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses);
  const found =
    all.find(({ internal, family }) => !internal && family === 'IPv4') ?? all.find(({ internal }) => !internal);
  if (found !== undefined) return found.address;
  throw new TandemError(
    'HOST_ADDRESS',
    'Expected an address by which other hosts reach this one; found the loopback only. Set join.address.',
  );
};
