/**
 * Optimises a rank's segments, one after the other: a segment and its weights are written to a scratch folder, ONNX Runtime
 * optimises them, and what it makes of the weights goes into the rank's weights file. So there is never more than one
 * segment's weights on the disk twice, or in memory.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { TandemError } from '../../../common/errors.js';
import { encodeModel, type ModelProto } from '../../onnx/index.js';
import { readModel } from '../../read/index.js';
import { HashedFile } from '../hashed-file.js';
import type { FileEntry, OptimisedFor } from '../manifest.js';
import { writeFileSynced, writeSegments } from '../segments.js';
import { SliceCopier } from '../slice-copy.js';
import {
  type EncodedSegment,
  type OptimiseRank,
  type RankPlace,
  type RawSegment,
  type SharedWeights,
  WEIGHTS_FILE,
} from '../tasks.js';
import { BLOCK_BYTES, writeSlices } from '../write-slices.js';
import { CONTENTS_FILE } from './contents.js';
import { saveOptimised } from './save.js';
import { ScratchFile } from './scratch-file.js';
import { WeightGatherer } from './weight-gatherer.js';

const SCRATCH_FOLDER = 'scratch';
const OPTIMISED_GRAPH = 'optimised.onnx';
const OPTIMISED_WEIGHTS = 'optimised.bin';

/** What all segments of a rank share. */
interface Workshop {
  /** Absolute; empty between segments. */
  readonly scratch: string;
  readonly copier: SliceCopier;
  readonly gatherer: WeightGatherer;
  readonly prepared: OptimisedFor;
  readonly onBytes: (bytes: number) => void;
}

/**
 * @param onBytes told of the size of each piece of a slice that has been read
 * @returns entries for the manifest, the weights file first
 * @throws TandemError PREPARE_FAILED with what ONNX Runtime says of a segment, WEIGHTS_MISSING, WEIGHTS_TOO_SHORT;
 * NodeJS.ErrnoException from the file system
 */
export const optimiseRank = async (
  { directory, folder }: RankPlace,
  { segments, prepared, shared }: Omit<OptimiseRank, 'kind'>,
  onBytes: (bytes: number) => void,
): Promise<readonly FileEntry[]> => {
  const path = posix.join(folder, WEIGHTS_FILE);
  const scratch = join(directory, folder, SCRATCH_FOLDER);
  const file = new HashedFile(join(directory, path));
  const copier = new SliceCopier(BLOCK_BYTES);
  try {
    const gatherer = new WeightGatherer(file, shared);
    const workshop = { scratch, copier, gatherer, prepared, onBytes };
    const ready: EncodedSegment[] = [];
    for (const segment of segments) ready.push(await optimiseSegment(segment, workshop));
    const weights = { path, ...file.finish() };
    const contents = new TextEncoder().encode(JSON.stringify(gatherer.contents));
    const listed = await writeFileSynced(directory, posix.join(folder, CONTENTS_FILE), contents);
    const more = shared === undefined ? [] : await keepUsed(directory, shared, gatherer.sharedBytes);
    return [weights, ...more, listed, ...(await writeSegments(directory, ready))];
  } finally {
    copier.close();
    file.close();
    await rm(scratch, { recursive: true, force: true });
  }
};

/** A file that nothing was found in is no part of the shards. */
const keepUsed = async (
  directory: string,
  { entry }: SharedWeights,
  usedBytes: number,
): Promise<readonly FileEntry[]> => {
  if (usedBytes > 0) return [entry];
  await rm(join(directory, entry.path));
  return [];
};

const optimiseSegment = async (segment: RawSegment, workshop: Workshop): Promise<EncodedSegment> => {
  const { scratch, gatherer } = workshop;
  await mkdir(scratch);
  await writeRaw(segment, workshop);
  await optimise(segment, workshop);
  const { model, weights } = await readModel(join(scratch, OPTIMISED_GRAPH), { requireWeights: true });
  const gathered = gatherer.gather(model, weights);
  nameNodes(gathered);
  await rm(scratch, { recursive: true });
  return { file: segment.file, graph: encodeModel(gathered) };
};

/** After their outputs: ONNX Runtime numbers the nodes that it adds differently from run to run. */
const nameNodes = ({ graph }: ModelProto): void => {
  for (const node of graph?.node ?? []) node.name = node.output.find((name) => name !== '') ?? '';
};

const writeRaw = async ({ file, graph, slices }: RawSegment, workshop: Workshop): Promise<void> => {
  const { scratch, copier, onBytes } = workshop;
  const weights = new ScratchFile(join(scratch, WEIGHTS_FILE));
  try {
    writeSlices(weights, copier, slices, onBytes);
  } finally {
    weights.close();
  }
  await writeFile(join(scratch, basename(file)), graph);
};

const optimise = async ({ file }: RawSegment, { scratch, prepared }: Workshop): Promise<void> => {
  try {
    await saveOptimised(join(scratch, basename(file)), prepared.provider, {
      graph: join(scratch, OPTIMISED_GRAPH),
      weights: OPTIMISED_WEIGHTS,
    });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.trim() : String(cause);
    throw new TandemError(
      'PREPARE_FAILED',
      `ONNX Runtime ${prepared.onnxruntime_version} cannot optimise "${file}" for provider "${prepared.provider}": ${message}`,
      { cause },
    );
  }
};
