/** Where a cluster's sockets are: in a fresh private directory, or on free ports of the loopback. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Over which sockets. */
export type Sockets = 'ipc' | 'tcp';

export interface Endpoints {
  readonly control: string;
  /** Index is the rank. */
  readonly exchange: readonly string[];
  /** Removes the directory, if there is one. */
  remove(): Promise<void>;
}

// The directory keeps other users out: mkdtemp makes it with mode 0700.
const ipcEndpoints = async (worldSize: number): Promise<Endpoints> => {
  const directory = await mkdtemp(join(tmpdir(), 'tandem-'));
  const endpoint = (name: string): string => `ipc://${join(directory, `${name}.sock`)}`;
  return {
    control: endpoint('control'),
    exchange: Array.from({ length: worldSize }, (_, rank) => endpoint(`rank-${rank}`)),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
};

// The listener chooses the port and reports it, so that no port is lost between choosing and binding.
const tcpEndpoints = (worldSize: number): Endpoints => ({
  control: 'tcp://127.0.0.1:*',
  exchange: Array.from({ length: worldSize }, () => 'tcp://127.0.0.1:*'),
  remove: async () => undefined,
});

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
