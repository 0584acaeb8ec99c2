/**
 * How the workers of a group exchange their tensors. Control messages always go over sockets; tensors go through shared memory where
 * that can be had, which is tens of times faster, and over the same kind of sockets elsewhere.
 */
import type { HostLink } from '../../partition/plan/rates.js';
import { whyNoSharedMemory } from '../../shard-worker/shared-memory/system.js';
import type { Sockets } from './endpoints.js';
import { sharedMemoryUnavailable } from './errors.js';

export const TRANSPORTS = ['auto', 'shared-memory', 'ipc', 'tcp'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** What a choice of transport means on this machine. */
export interface Ways {
  readonly sockets: Sockets;
  readonly sharesMemory: boolean;
}

/** ZeroMQ has no `ipc://` on Windows. */
export const socketsOf = (transport: Transport): Sockets =>
  transport === 'tcp' || (transport !== 'ipc' && process.platform === 'win32') ? 'tcp' : 'ipc';

/** What lies between the ranks with a choice of transport, for plans: whether memory can be had shows at the start. */
export const linkOf = (transport: Transport): HostLink =>
  transport === 'shared-memory' || (transport === 'auto' && process.platform === 'linux')
    ? 'shared-memory'
    : socketsOf(transport);

/**
 * @param onNotice told why `auto` is not shared memory
 * @param whyNot why this machine has none
 * @throws TandemError `SHARED_MEMORY_UNAVAILABLE` where it was asked for and cannot be had
 */
export const waysOf = (
  transport: Transport,
  worldSize: number,
  onNotice: (message: string) => void,
  whyNot: () => string | undefined = whyNoSharedMemory,
): Ways => {
  const sockets = socketsOf(transport);
  const wanted = transport === 'shared-memory' || (transport === 'auto' && worldSize > 1);
  const why = wanted ? whyNot() : undefined;
  if (why === undefined) return { sockets, sharesMemory: wanted };
  if (transport === 'shared-memory') throw sharedMemoryUnavailable(why);
  onNotice(`Workers exchange over ${sockets} sockets instead of shared memory: ${why}.`);
  return { sockets, sharesMemory: false };
};
