/** Segment graphs as files: initializers get their bytes or point into the rank's weights file. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  cloneTensor,
  encodeModel,
  type ModelProto,
  setExternalData,
  type TensorProto,
  withInitializers,
} from '../onnx/index.js';
import { proofOf, READ_ONLY } from './hashed-file.js';
import type { FileEntry } from './manifest.js';
import type { Placed, SegmentContent } from './rank-layout.js';
import { type EncodedSegment, WEIGHTS_FILE } from './tasks.js';

/** Flushing waits on the disk, so a few files wait at the same time. */
const FILES_AT_ONCE = 8;

/**
 * Writes a rank's segments below `directory` and flushes them.
 * @returns their entries for the manifest, in order
 * @throws NodeJS.ErrnoException from the file system
 */
export const writeSegments = async (
  directory: string,
  segments: readonly EncodedSegment[],
): Promise<readonly FileEntry[]> => {
  const entries: FileEntry[] = [];
  for (let first = 0; first < segments.length; first += FILES_AT_ONCE) {
    const some = segments.slice(first, first + FILES_AT_ONCE);
    entries.push(...(await Promise.all(some.map(({ file, graph }) => writeFileSynced(directory, file, graph)))));
  }
  return entries;
};

/** A segment with its initializers in their places. */
export const encodeSegment = (
  { file, model }: SegmentContent,
  placed: ReadonlyMap<string, Placed>,
): EncodedSegment => ({ file, graph: encodeModel(placeInitializers(model, placed)) });

/** Writes and flushes a new file. */
export const writeFileSynced = async (directory: string, path: string, bytes: Uint8Array): Promise<FileEntry> => {
  const handle = await open(join(directory, path), 'wx', READ_ONLY);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { path, ...proofOf(bytes) };
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
