/** Segment graphs as files: initializers get their bytes or point into the rank's weights file. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileEntry } from '../manifest.js';
import {
  cloneTensor,
  encodeModel,
  type ModelProto,
  setExternalData,
  type TensorProto,
  withInitializers,
} from '../onnx/index.js';
import type { Placed, SegmentContent } from './rank-layout.js';

/** Name of a rank's weights file, in the rank's folder. ONNX Runtime wants external data in the graph's own folder. */
export const WEIGHTS_FILE = 'weights.bin';

/** Flushing waits on the disk, so a few files wait at the same time. */
const FILES_AT_ONCE = 8;

/**
 * Writes a rank's segments below `directory` and flushes them.
 * @returns their entries for the manifest, in order
 * @throws NodeJS.ErrnoException from the file system; the signal's reason when it aborts
 */
export const writeSegments = async (
  directory: string,
  segments: readonly SegmentContent[],
  placed: ReadonlyMap<string, Placed>,
  signal: AbortSignal | undefined,
): Promise<readonly FileEntry[]> => {
  const entries: FileEntry[] = [];
  for (let first = 0; first < segments.length; first += FILES_AT_ONCE) {
    signal?.throwIfAborted();
    const some = segments.slice(first, first + FILES_AT_ONCE);
    entries.push(...(await Promise.all(some.map((segment) => writeSegment(directory, segment, placed)))));
  }
  return entries;
};

const writeSegment = async (
  directory: string,
  { file, model }: SegmentContent,
  placed: ReadonlyMap<string, Placed>,
): Promise<FileEntry> => writeFileSynced(directory, file, encodeModel(placeInitializers(model, placed)));

/** Writes and flushes a new file. */
export const writeFileSynced = async (directory: string, path: string, bytes: Uint8Array): Promise<FileEntry> => {
  const handle = await open(join(directory, path), 'wx');
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { path, bytes: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') };
};

const placeInitializers = (model: ModelProto, placed: ReadonlyMap<string, Placed>): ModelProto =>
  withInitializers(
    model,
    (model.graph?.initializer ?? []).map((tensor) => {
      const place = placed.get(tensor.name);
      return place ? placeTensor(tensor, place) : tensor;
    }),
  );

const placeTensor = (tensor: TensorProto, place: Placed): TensorProto => {
  const copy = cloneTensor(tensor);
  switch (place.kind) {
    case 'inline':
      copy.rawData = place.data;
      return copy;
    case 'stored':
      setExternalData(copy, WEIGHTS_FILE, place.offset, place.bytes);
      return copy;
    default:
      return place satisfies never;
  }
};
