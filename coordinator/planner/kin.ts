/** Shards of other sizes of the same model, whose weights new ones can share. */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Manifest } from '../../partition/index.js';
import { readManifest } from '../../partition/write/read-manifest.js';

const ownBytes = ({ files, ranks }: Manifest): number =>
  files.filter(({ path }) => ranks.some(({ weights }) => weights === path)).reduce((sum, { bytes }) => sum + bytes, 0);

/**
 * The shards of another size of the same model that have most weights of their own.
 * @param own shard directory; the others lie beside it
 * @param prefix with which the names of all sizes begin
 */
export const findKin = async (own: string, prefix: string): Promise<string | undefined> => {
  const root = dirname(own);
  const names = (await readdir(root)).filter((name) => name.startsWith(prefix) && name !== basename(own));
  const found: { directory: string; bytes: number }[] = [];
  for (const directory of names.map((name) => join(root, name))) {
    // One that is damaged or being replaced is of no use, and no harm.
    const manifest = await readManifest(directory).catch(() => undefined);
    if (manifest !== undefined) found.push({ directory, bytes: ownBytes(manifest) });
  }
  return found.sort((a, b) => b.bytes - a.bytes).at(0)?.directory;
};
