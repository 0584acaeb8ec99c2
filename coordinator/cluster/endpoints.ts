/** Where a cluster's sockets are: in a fresh private directory, or on free ports of the loopback. */
import { existsSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makePrivate } from '../../shard-worker/private-files.js';

/** Over which sockets. */
export type Sockets = 'ipc' | 'tcp';

export interface Endpoints {
  readonly control: string;
  /** Index is the rank. */
  readonly exchange: readonly string[];
  /**
   * Makes the directory again where somebody has removed it, or sockets in it.
   * @returns whether it had to: whoever listened there can no longer be found
   */
  restore(): Promise<boolean>;
  /** Removes the directory, if there is one. */
  remove(): Promise<void>;
}

// The directory keeps other users out: mkdtemp makes it with mode 0700.
const ipcEndpoints = async (worldSize: number): Promise<Endpoints> => {
  const directory = await mkdtemp(join(await realpath(tmpdir()), 'tandem-'));
  const endpoint = (name: string): string => `ipc://${join(directory, `${name}.sock`)}`;
  return {
    control: endpoint('control'),
    exchange: Array.from({ length: worldSize }, (_, rank) => endpoint(`rank-${rank}`)),
    restore: async () => {
      if (existsSync(join(directory, 'control.sock'))) return false;
      makePrivate(directory);
      return true;
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
};

// The listener chooses the port and reports it, so that no port is lost between choosing and binding.
const tcpEndpoints = (worldSize: number): Endpoints => ({
  control: 'tcp://127.0.0.1:*',
  exchange: Array.from({ length: worldSize }, () => 'tcp://127.0.0.1:*'),
  restore: async () => false,
  remove: async () => undefined,
});

/** Any free port of an IP address. */
export const portOn = (address: string): string => `tcp://${address.includes(':') ? `[${address}]` : address}:*`;

/** Fresh endpoints for a control socket and `worldSize` exchange sockets. */
export const makeEndpoints = async (sockets: Sockets, worldSize: number): Promise<Endpoints> => {
  switch (sockets) {
    case 'ipc':
      return ipcEndpoints(worldSize);
    case 'tcp':
      return tcpEndpoints(worldSize);
    default:
      return sockets satisfies never;
  }
};
