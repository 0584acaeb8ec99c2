/**
 * The last stage: slices and segment graphs become a shard directory.
 *
 *     manifest.json
 *     rank-0/weights.bin    the rank's slices, each once, on 4096-byte boundaries
 *     rank-0/*.onnx         segments, which refer to weights.bin as external data
 *     rank-0/shared.bin     weights that the shards of another size have as well: a link to their file
 *
 * For a rank whose segments are to be optimised, both are what ONNX Runtime made of the segments and slices (`optimise/`).
 *
 * The manifest is written last, into a directory that is renamed into its place when it is whole.
 */
import { mkdir } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { TandemError } from '../../common/errors.js';
import { encodeSegment } from './encode.js';
import { writeError } from './errors.js';
import { type FileEntry, MANIFEST_FILE, type Manifest, type RankEntry } from './manifest.js';
import { shareWeights } from './optimise/contents.js';
import { layOutRank, type RankContent, type RankLayout, type SegmentContent } from './rank-layout.js';
import { parseManifest } from './read-manifest.js';
import { writeFileSynced } from './segments.js';
import { stage, syncDirectory } from './staging.js';
import { type RankWork, type RawSegment, SHARED_FILE, type SharedWeights, WEIGHTS_FILE } from './tasks.js';
import { type WriteOptions, writeRanks } from './write-pool.js';

export type { InlineSource, WeightSlice } from '../graph/slice.js';
export type { RankContent, SegmentContent } from './rank-layout.js';
export type { WriteOptions } from './write-pool.js';

export interface ShardContent {
  /** All of the manifest but what only the writer knows. */
  readonly manifest: Omit<Manifest, 'files' | 'ranks'>;
  /** Index is the rank. */
  readonly ranks: readonly RankContent[];
}

export interface WriteShardsOptions extends WriteOptions {
  /** Another shard directory of the same model: weights that it holds are linked rather than written, where they can be. */
  readonly alongside?: string;
}

/**
 * Writes a shard directory, or replaces an earlier one. Nothing is left behind where this throws.
 * @param out the shard directory; its parent folders are made
 * @returns the manifest as it was written
 * @throws TandemError WRITE_CONTENT or SLICE_RANGE when the content does not fit together, WRITE_OCCUPIED when something else
 * is at `out`, WRITE_BUSY, WRITE_DISK_FULL, WRITE_DENIED, WRITE_FAILED, WEIGHTS_TOO_SHORT, PREPARE_FAILED; the signal's reason when it aborts
 */
export const writeShardDirectory = async (
  out: string,
  content: ShardContent,
  options: WriteShardsOptions = {},
): Promise<Manifest> => {
  options.signal?.throwIfAborted();
  checkPaths(content.ranks);
  const layouts = content.ranks.map(layOutRank);
  const staging = await stage(out, weightBytes(layouts));
  try {
    const manifest = await writeFiles(staging.directory, content, layouts, options);
    options.signal?.throwIfAborted();
    await staging.publish();
    return manifest;
  } catch (error) {
    await staging.discard();
    throw writeError(out, error);
  }
};

const weightBytes = (layouts: readonly RankLayout[]): number =>
  layouts.reduce((sum, layout) => sum + layout.weightBytes, 0);

const writeFiles = async (
  directory: string,
  content: ShardContent,
  layouts: readonly RankLayout[],
  { alongside, ...options }: WriteShardsOptions,
): Promise<Manifest> => {
  for (const { folder } of content.ranks) await mkdir(join(directory, folder), { recursive: true });
  const tasks = await Promise.all(
    content.ranks.map(async (rank, index) => {
      const { folder, prepared } = rank;
      const place = { directory, folder };
      const isShared = alongside !== undefined && prepared !== undefined;
      const shared = isShared ? await shareWeights(alongside, index, place, prepared) : undefined;
      return { ...place, work: toWork(rank, layouts[index], shared) };
    }),
  );
  const files = await writeRanks(tasks, options);
  for (const { folder } of content.ranks) await syncDirectory(join(directory, folder));
  return writeManifest(directory, {
    ...content.manifest,
    ranks: rankEntries(content.ranks, layouts, files),
    files: files.flat(),
  });
};

const toWork = (rank: RankContent, layout: RankLayout | undefined, shared: SharedWeights | undefined): RankWork => {
  if (!layout) throw new RangeError(`${rank.folder} has no layout.`);
  const { prepared } = rank;
  if (prepared) {
    const segments = rank.segments.map((segment) => toRaw(rank, segment));
    return { kind: 'optimise', prepared, segments, ...(shared ? { shared } : {}) };
  }
  const segments = rank.segments.map((segment) => encodeSegment(segment, layout.placed));
  return { kind: 'copy', slices: layout.stored, segments };
};

/** The segment by itself, so that no more than one is as it was on the disk, or in memory, at a time. */
const toRaw = (rank: RankContent, segment: SegmentContent): RawSegment => {
  const { placed, stored } = layOutRank({ ...rank, segments: [segment] });
  return { ...encodeSegment(segment, placed), slices: stored };
};

const rankEntries = (
  ranks: readonly RankContent[],
  layouts: readonly RankLayout[],
  files: readonly (readonly FileEntry[])[],
): Manifest['ranks'] =>
  ranks.map(({ folder, prepared }, rank) => ({
    rank,
    folder,
    weights: posix.join(folder, WEIGHTS_FILE),
    ...sharedEntry(files[rank] ?? []),
    weight_bytes: layouts[rank]?.weightBytes ?? 0,
    ...(prepared ? { prepared } : {}),
  }));

const sharedEntry = (files: readonly FileEntry[]): Pick<RankEntry, 'shared'> => {
  const shared = files.find(({ path }) => posix.basename(path) === SHARED_FILE);
  return shared === undefined ? {} : { shared: shared.path };
};

/** Read back before it is written: a manifest that a worker would refuse must not come into being. */
const writeManifest = async (directory: string, manifest: Manifest): Promise<Manifest> => {
  const text = `${JSON.stringify(manifest, undefined, 1)}\n`;
  const checked = parseManifest(directory, text);
  await writeFileSynced(directory, MANIFEST_FILE, new TextEncoder().encode(text));
  return checked;
};

const checkPaths = (ranks: readonly RankContent[]): void => {
  const folders = ranks.map(({ folder }) => folder);
  const files = ranks.flatMap(({ segments }) => segments.map(({ file }) => file));
  const problems = [
    ...duplicates([...folders, ...files]).map((path) => `"${path}" is written twice`),
    ...ranks.flatMap(({ folder, segments }) =>
      segments
        .filter(({ file }) => posix.dirname(file) !== folder)
        .map(({ file }) => `segment "${file}" is not in its rank's folder "${folder}"`),
    ),
  ];
  if (problems.length > 0)
    throw new TandemError('WRITE_CONTENT', `The shard directory's paths clash: ${problems[0]}.`, { problems });
};

const duplicates = (paths: readonly string[]): readonly string[] =>
  paths.filter((path, index) => paths.indexOf(path) !== index);
