/** Tells two shard directories apart by their manifests, which hold the digests of all files. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MANIFEST_FILE } from '../partition/write/manifest.js';
import { readManifest } from '../partition/write/read-manifest.js';

/**
 * sha256 of a shard directory's manifest, in hex.
 * @throws TandemError as `readManifest`, where it cannot be read
 */
export const manifestDigest = async (directory: string): Promise<string> => {
  const text = await readFile(join(directory, MANIFEST_FILE)).catch(async (error: unknown) => {
    await readManifest(directory);
    throw error;
  });
  return createHash('sha256').update(text).digest('hex');
};
