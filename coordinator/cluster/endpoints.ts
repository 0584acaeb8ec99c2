/**
 * Where a cluster's sockets are: in a private directory, or on free ports of the loopback. No two workers ever have the same socket
 * file, not even one and its successor: what an ended or a lost worker has left lies in nobody's way.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directPath, socketPath } from '../../shard-worker/endpoints.js';
import { makePrivate } from '../../shard-worker/private-files.js';

/** Over which sockets. */
export type Sockets = 'ipc' | 'tcp';

export interface Endpoints {
  readonly control: string;
  /** For one worker of this rank, and no other one. */
  exchange(rank: number): string;
  /**
   * Makes the directory again where somebody has removed it, or sockets in it.
   * @param listening endpoints of the workers that are well
   * @returns whether it had to: whoever listened there can no longer be found
   */
  restore(listening: readonly string[]): Promise<boolean>;
  /** Removes the directory, if there is one. */
  remove(): Promise<void>;
}

/** Few, as a socket's whole path may have a hundred or so. */
const NONCE_CHARACTERS = 5;
const nonce = (): string => randomBytes(NONCE_CHARACTERS).toString('base64url').slice(0, NONCE_CHARACTERS);
const SOCKET = /\.sock(\.d)?$/;

export const socketsIn = (directory: string) => {
  const endpoint = (name: string): string => `ipc://${join(directory, `${name}.sock`)}`;
  return { control: endpoint('control'), exchange: (rank: number) => endpoint(`${rank}-${nonce()}`) };
};

/** Whether the control socket and these workers' are still there. */
export const hasSockets = (directory: string, listening: readonly string[]): boolean =>
  [socketsIn(directory).control, ...listening].flatMap((endpoint) => socketPath(endpoint) ?? []).every(existsSync);

/** Removes all sockets but those of these files. */
export const removeSockets = (directory: string, kept: readonly string[] = []): void => {
  for (const path of readdirSync(directory).map((name) => join(directory, name)))
    if (SOCKET.test(path) && !kept.some((file) => path === file || path === directPath(file)))
      rmSync(path, { force: true });
};

// The directory keeps other users out: mkdtemp makes it with mode 0700.
const ipcEndpoints = async (): Promise<Endpoints> => {
  const directory = await mkdtemp(join(await realpath(tmpdir()), 'tandem-'));
  return {
    ...socketsIn(directory),
    restore: async (listening) => {
      if (hasSockets(directory, listening)) return false;
      makePrivate(directory);
      removeSockets(directory);
      return true;
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
};

// The listener chooses the port and reports it, so that no port is lost between choosing and binding.
const tcpEndpoints = (): Endpoints => ({
  control: 'tcp://127.0.0.1:*',
  exchange: () => 'tcp://127.0.0.1:*',
  restore: async () => false,
  remove: async () => undefined,
});

/** Any free port of an IP address. */
export const portOn = (address: string): string => `tcp://${address.includes(':') ? `[${address}]` : address}:*`;

/** Fresh endpoints for a control socket and exchange sockets. */
export const makeEndpoints = async (sockets: Sockets): Promise<Endpoints> => {
  switch (sockets) {
    case 'ipc':
      return ipcEndpoints();
    case 'tcp':
      return tcpEndpoints();
    default:
      return sockets satisfies never;
  }
};
