/** What of a shard directory a host may have: the manifest, and the files of the rank that it was given. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { MANIFEST_FILE } from '../../partition/write/manifest.js';
import { fill, rankFiles } from '../../shard-worker/check.js';
import type { RemoteNetwork } from '../cluster/index.js';
import { FILE_PIECE_BYTES } from './messages.js';

const isOffered = ({ manifest, place }: RemoteNetwork, path: string): boolean =>
  path === MANIFEST_FILE || rankFiles(manifest, place).some((file) => file.path === path);

/** @returns a piece, empty at the file's end; undefined where the file is not for this host */
export const readPiece = async (network: RemoteNetwork, path: string, offset: number): Promise<Buffer | undefined> => {
  if (!isOffered(network, path)) return undefined;
  const file = await open(join(network.directory, path));
  try {
    const buffer = Buffer.allocUnsafe(FILE_PIECE_BYTES);
    return buffer.subarray(0, await fill(file, buffer, offset));
  } finally {
    await file.close();
  }
};
