/** Decides where a rank's slices go: into the weights file, once each, or, where they are small, into the graphs. */
import { createHash } from 'node:crypto';
import { TandemError } from '../../common/errors.js';
import { byteLength } from '../../common/tensor.js';
import { gather, type SliceLayout, sliceLayout, sliceShape, type WeightSlice } from '../graph/slice.js';
import type { ModelProto, TensorProto } from '../onnx/index.js';
import { INLINE_LIMIT_BYTES } from '../read/skeleton.js';
import { heldBytes, toDType, toShape } from '../read/tensor-bytes.js';
import type { OptimisedFor } from './manifest.js';
import { SliceCopier, type SliceOrigin } from './slice-copy.js';
import { ALIGNMENT_BYTES, type StoredSlice } from './tasks.js';

export interface SegmentContent {
  /** Relative to the shard directory, in the rank's folder. */
  readonly file: string;
  /** Initializers that have a slice by their name have type and dims only, as in `SourceModel`. */
  readonly model: ModelProto;
}

export interface RankContent {
  /** Relative to the shard directory. */
  readonly folder: string;
  readonly slices: readonly WeightSlice[];
  readonly segments: readonly SegmentContent[];
  /** Bytes that slices have in the end where the segments make int8 weights of them, by name. */
  readonly quantized?: ReadonlyMap<string, number>;
  /** Optimise the segments for this; they are written as they are where absent. */
  readonly prepared?: OptimisedFor;
}

/** Where an initializer's bytes are. */
export type Placed =
  | { readonly kind: 'inline'; readonly data: Uint8Array }
  | { readonly kind: 'stored'; readonly offset: number; readonly bytes: number };

export interface RankLayout {
  /** What goes into the weights file. */
  readonly stored: readonly StoredSlice[];
  /** By initializer name; only what a segment uses. */
  readonly placed: ReadonlyMap<string, Placed>;
  /** Bytes of all slices, stored or inline, each counted once, as int8 where they become that. */
  readonly weightBytes: number;
}

/** A slice with its key: slices with equal keys have equal bytes. */
interface KeyedSlice {
  readonly key: string;
  readonly layout: SliceLayout;
  readonly origin: SliceOrigin;
  readonly names: readonly string[];
}

/** Small reads need no large buffers. */
const SMALL_BLOCK_BYTES = 1024 * 1024;

/**
 * @throws TandemError SLICE_RANGE, or WRITE_CONTENT with all the initializers that do not fit their slices
 */
export const layOutRank = (content: RankContent): RankLayout => {
  const keyed = mergeEqual(usedSlices(content));
  const small = keyed.filter(({ layout }) => layout.bytes <= INLINE_LIMIT_BYTES);
  const large = keyed.filter(({ layout }) => layout.bytes > INLINE_LIMIT_BYTES).sort(bySource);
  const placed = new Map<string, Placed>();
  for (const [slice, data] of readSmall(small)) {
    for (const name of slice.names) placed.set(name, { kind: 'inline', data });
  }
  const stored: StoredSlice[] = [];
  let end = 0;
  for (const { layout, origin, names } of large) {
    const position = Math.ceil(end / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    stored.push({ position, origin, layout });
    for (const name of names) placed.set(name, { kind: 'stored', offset: position, bytes: layout.bytes });
    end = position + layout.bytes;
  }
  const finalBytes = ({ names: [name = ''], layout }: KeyedSlice) => content.quantized?.get(name) ?? layout.bytes;
  return { stored, placed, weightBytes: keyed.reduce((sum, slice) => sum + finalBytes(slice), 0) };
};

/** The slices that segments use, by name; a slice that no segment uses is not written. */
const usedSlices = ({ folder, slices, segments }: RankContent): readonly WeightSlice[] => {
  const byName = new Map(slices.map((slice) => [slice.name, slice]));
  const used = new Set<WeightSlice>();
  const problems: string[] = [];
  for (const { file, model } of segments) {
    for (const tensor of model.graph?.initializer ?? []) {
      const slice = byName.get(tensor.name);
      const problem = slice ? findMismatch(tensor, slice) : findMissing(tensor);
      if (problem) problems.push(`${file}: initializer "${tensor.name}" ${problem}`);
      if (slice) used.add(slice);
    }
  }
  if (byName.size < slices.length) problems.push(`${folder}: ${slices.length - byName.size} slices share a name`);
  if (problems.length > 0)
    throw new TandemError('WRITE_CONTENT', `The segments do not fit their slices: ${problems[0]}.`, { problems });
  return [...used];
};

const findMismatch = (tensor: TensorProto, slice: WeightSlice): string | undefined => {
  const dtype = toDType(tensor.dataType);
  const expected = `${slice.source.dtype} [${sliceShape(slice)}]`;
  const found = `${dtype} [${tensor.dims}]`;
  if (expected !== found) return `is ${found}, but its slice is ${expected}`;
  if (dtype && heldBytes(tensor, dtype) > 0) return 'has both data and a slice';
  return undefined;
};

const findMissing = (tensor: TensorProto): string | undefined => {
  const dtype = toDType(tensor.dataType);
  const shape = toShape(tensor.dims);
  const isWhole = dtype && shape && heldBytes(tensor, dtype) === byteLength({ dtype, shape });
  return isWhole ? undefined : 'has neither its data nor a slice';
};

const mergeEqual = (slices: readonly WeightSlice[]): readonly KeyedSlice[] => {
  const merged = new Map<string, KeyedSlice & { readonly names: string[] }>();
  for (const slice of slices) {
    const { key, ...place } = toKeyed(slice);
    const known = merged.get(key);
    if (known) known.names.push(slice.name);
    else merged.set(key, { key, ...place, names: [slice.name] });
  }
  return [...merged.values()];
};

const toKeyed = (slice: WeightSlice): Omit<KeyedSlice, 'names'> => {
  const layout = sliceLayout(slice);
  const { source } = slice;
  if ('data' in source) return toKeyedInMemory(source.data, layout);
  const { file, offset } = source;
  const { rows, rowBytes, runs } = layout;
  return { key: JSON.stringify([file, offset, rows, rowBytes, runs]), layout, origin: { kind: 'file', file, offset } };
};

/** Sliced here, so that a thread is sent only what it writes. */
const toKeyedInMemory = (whole: Uint8Array, layout: SliceLayout): Omit<KeyedSlice, 'names'> => {
  const { bytes } = layout;
  const data = new Uint8Array(bytes);
  gather(whole, layout, data);
  const sha256 = createHash('sha256').update(data).digest('hex');
  const dense = { rows: 1, rowBytes: bytes, runs: [{ start: 0, bytes }], bytes };
  return { key: `memory ${sha256}`, layout: dense, origin: { kind: 'memory', data } };
};

/** In the order of the source files, which a disk reads fastest and which keeps ranks on the same pages. */
const bySource = (a: KeyedSlice, b: KeyedSlice): number => {
  const [from, to] = [a.origin, b.origin];
  if (from.kind === 'memory' || to.kind === 'memory')
    return Number(from.kind === 'memory') - Number(to.kind === 'memory');
  if (from.file !== to.file) return from.file < to.file ? -1 : 1;
  return from.offset - to.offset;
};

function* readSmall(slices: readonly KeyedSlice[]): Generator<readonly [KeyedSlice, Uint8Array]> {
  const copier = new SliceCopier(SMALL_BLOCK_BYTES);
  try {
    for (const slice of slices) {
      const data = new Uint8Array(slice.layout.bytes);
      let done = 0;
      copier.copy(slice.origin, slice.layout, (piece) => {
        data.set(piece, done);
        done += piece.byteLength;
      });
      yield [slice, data];
    }
  } finally {
    copier.close();
  }
}
