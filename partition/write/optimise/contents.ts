/**
 * What a rank's weights file holds, by content. A picture of another size is another plan, but most of its slices are the same to
 * the byte; shards that are made alongside those of another size link that file and write only what it lacks, so that both map
 * the same pages.
 */
import { createReadStream } from 'node:fs';
import { link, readFile, rm } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { z } from 'zod';
import { Checksum } from '../../../common/checksum.js';
import type { FileEntry, Manifest, OptimisedFor } from '../manifest.js';
import { readManifest } from '../read-manifest.js';
import { type Contents, type RankPlace, SHARED_FILE, type SharedWeights } from '../tasks.js';

/** Beside a rank's weights: the digest of each content and where it starts. */
export const CONTENTS_FILE = 'contents.json';

const contents: z.ZodType<Contents> = z.array(z.tuple([z.string(), z.number()]));

const samePrepared = (a: OptimisedFor | undefined, b: OptimisedFor): boolean =>
  a?.provider === b.provider && a.onnxruntime_version === b.onnxruntime_version && a.layout === b.layout;

const PIECE_BYTES = 8 << 20;

/** A file that is linked unread would hand on its damage, and a wrong place in a file that is whole is a wrong weight. */
const isWhole = async (path: string, { bytes, gmac }: FileEntry): Promise<boolean> => {
  const checksum = new Checksum();
  let read = 0;
  for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES })) {
    checksum.update(piece);
    read += piece.length;
  }
  return read === bytes && checksum.digest() === gmac;
};

const entryOf = ({ files }: Manifest, path: string): FileEntry | undefined => files.find((file) => file.path === path);

/** Undefined where the other rank's weights were made for something else, or are damaged. */
const linkWeights = async (
  alongside: string,
  manifest: Manifest,
  rank: number,
  { directory, folder }: RankPlace,
  prepared: OptimisedFor,
): Promise<SharedWeights | undefined> => {
  const other = manifest.ranks[rank];
  if (other === undefined || !samePrepared(other.prepared, prepared)) return undefined;
  const file = entryOf(manifest, other.weights);
  const list = entryOf(manifest, posix.join(other.folder, CONTENTS_FILE));
  if (file === undefined || list === undefined || !(await isWhole(join(alongside, list.path), list))) return undefined;
  const known = contents.parse(JSON.parse(await readFile(join(alongside, list.path), 'utf8')));
  const path = posix.join(folder, SHARED_FILE);
  await link(join(alongside, file.path), join(directory, path));
  if (!(await isWhole(join(directory, path), file))) throw new RangeError(`"${file.path}" is damaged.`);
  return { entry: { ...file, path }, contents: known };
};

/**
 * Links what the same rank of another shard directory has; undefined where that cannot be: all is written then.
 * @param alongside the other shard directory
 */
export const shareWeights = async (
  alongside: string,
  rank: number,
  place: RankPlace,
  prepared: OptimisedFor,
): Promise<SharedWeights | undefined> => {
  try {
    return await linkWeights(alongside, await readManifest(alongside), rank, place, prepared);
  } catch {
    // It may be gone or damaged, or on a file system that has no links: sharing is an economy, no more.
    await rm(join(place.directory, place.folder, SHARED_FILE), { force: true });
    return undefined;
  }
};
