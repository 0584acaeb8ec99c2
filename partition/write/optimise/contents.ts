/**
 * What a rank's weights file holds, by content. A picture of another size is another plan, but most of its slices are the same to
 * the byte; shards that are made alongside those of another size link that file and write only what it lacks, so that both map
 * the same pages.
 */
import { link, readFile, rm } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { z } from 'zod';
import type { Manifest, OptimisedFor } from '../manifest.js';
import { readManifest } from '../read-manifest.js';
import { type Contents, type RankPlace, SHARED_FILE, type SharedWeights } from '../tasks.js';

/** Beside a rank's weights: the digest of each content and where it starts. */
export const CONTENTS_FILE = 'contents.json';

const contents: z.ZodType<Contents> = z.array(z.tuple([z.string(), z.number()]));

const samePrepared = (a: OptimisedFor | undefined, b: OptimisedFor): boolean =>
  a?.provider === b.provider && a.onnxruntime_version === b.onnxruntime_version && a.layout === b.layout;

/** Undefined where the other rank's weights were made for something else. */
const linkWeights = async (
  alongside: string,
  manifest: Manifest,
  rank: number,
  { directory, folder }: RankPlace,
  prepared: OptimisedFor,
): Promise<SharedWeights | undefined> => {
  const other = manifest.ranks[rank];
  const file = manifest.files.find(({ path }) => path === other?.weights);
  if (other === undefined || file === undefined || !samePrepared(other.prepared, prepared)) return undefined;
  const text = await readFile(join(alongside, other.folder, CONTENTS_FILE), 'utf8');
  const path = posix.join(folder, SHARED_FILE);
  await link(join(alongside, file.path), join(directory, path));
  return { entry: { ...file, path }, contents: contents.parse(JSON.parse(text)) };
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
