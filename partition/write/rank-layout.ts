/** Decides where a rank's slices go: into the weights file, once each, or, where they are small, into the graphs. */
import { createHash } from 'node:crypto';
import { TandemError } from '../../common/errors.js';
import { constantsOf, type Graph, sliceOf, type Value } from '../graph/graph.js';
import { findBroken } from '../graph/sections.js';
import { gather, type SliceLayout, sliceLayout, sliceShape, type WeightSlice } from '../graph/slice.js';
import { INLINE_LIMIT_BYTES } from '../read/skeleton.js';
import type { Placed } from './encode.js';
import type { OptimisedFor } from './manifest.js';
import { SliceCopier, type SliceOrigin } from './slice-copy.js';
import { ALIGNMENT_BYTES, type StoredSlice } from './tasks.js';

export interface SegmentContent {
  /** Relative to the shard directory, in the rank's folder. */
  readonly file: string;
  /** All values have the names that the file will have. */
  readonly graph: Graph;
}

export interface RankContent {
  /** Relative to the shard directory. */
  readonly folder: string;
  readonly segments: readonly SegmentContent[];
  /** Bytes that constants have in the end where ONNX Runtime folds them into others, as float32 weights into int8 ones. */
  readonly folded?: ReadonlyMap<Value, number>;
  /** Optimise the segments for this; they are written as they are where absent. */
  readonly prepared?: OptimisedFor;
}

export interface RankLayout {
  /** What goes into the weights file. */
  readonly stored: readonly StoredSlice[];
  /** Of every constant that a segment reads. */
  readonly placed: ReadonlyMap<Value, Placed>;
  /** Bytes of all constants, stored or inline, each counted once, as they are in the end. */
  readonly weightBytes: number;
}

/** A slice with its key: slices with equal keys have equal bytes. */
interface KeyedSlice {
  readonly key: string;
  readonly layout: SliceLayout;
  readonly origin: SliceOrigin;
  readonly values: readonly Value[];
}

/** Small reads need no large buffers. */
const SMALL_BLOCK_BYTES = 1024 * 1024;

/**
 * @throws TandemError SLICE_RANGE, or WRITE_CONTENT with all that does not fit together
 */
export const layOutRank = (content: RankContent): RankLayout => {
  const keyed = mergeEqual(checkedConstants(content));
  const small = keyed.filter(({ layout }) => layout.bytes <= INLINE_LIMIT_BYTES);
  const large = keyed.filter(({ layout }) => layout.bytes > INLINE_LIMIT_BYTES).sort(bySource);
  const placed = new Map<Value, Placed>();
  for (const [slice, data] of readSmall(small)) {
    for (const value of slice.values) placed.set(value, { kind: 'inline', data });
  }
  const stored: StoredSlice[] = [];
  let end = 0;
  for (const { layout, origin, values } of large) {
    const position = Math.ceil(end / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    stored.push({ position, origin, layout });
    for (const value of values) placed.set(value, { kind: 'stored', offset: position, bytes: layout.bytes });
    end = position + layout.bytes;
  }
  const finalBytes = ({ values: [value], layout }: KeyedSlice) => (value && content.folded?.get(value)) ?? layout.bytes;
  return { stored, placed, weightBytes: keyed.reduce((sum, slice) => sum + finalBytes(slice), 0) };
};

/** The constants that segments read. A worker would find what is wrong with a graph only when it opens it. */
const checkedConstants = ({ segments }: RankContent): ReadonlySet<Value> => {
  const constants = new Set(segments.flatMap(({ graph }) => [...constantsOf(graph)]));
  const problems = [
    ...segments.flatMap(({ file, graph }) => findBroken(graph).map((problem) => `${file}: ${problem}`)),
    ...[...constants].flatMap((value) => findMismatch(value) ?? []),
    ...findNamesakes([...constants]),
  ];
  if (problems.length === 0) return constants;
  throw new TandemError('WRITE_CONTENT', `The segments do not fit their constants: ${problems[0]}.`, { problems });
};

const findNamesakes = (constants: readonly Value[]): readonly string[] => {
  const distinct = new Set(constants.map(({ name }) => name)).size;
  return distinct === constants.length ? [] : [`${constants.length - distinct} constants share a name`];
};

const findMismatch = (value: Value): string | undefined => {
  const slice = sliceOf(value);
  const found = slice && `${slice.source.dtype} [${sliceShape(slice)}]`;
  const expected = `${value.dtype} [${value.shape}]`;
  return found === expected ? undefined : `constant "${value.name}" is ${expected}, but its slice is ${found}`;
};

const mergeEqual = (constants: Iterable<Value>): readonly KeyedSlice[] => {
  const merged = new Map<string, KeyedSlice & { readonly values: Value[] }>();
  for (const value of constants) {
    const slice = sliceOf(value);
    if (!slice) continue;
    const { key, ...place } = toKeyed(slice);
    const known = merged.get(key);
    if (known) known.values.push(value);
    else merged.set(key, { key, ...place, values: [value] });
  }
  return [...merged.values()];
};

const toKeyed = (slice: WeightSlice): Omit<KeyedSlice, 'values'> => {
  const layout = sliceLayout(slice);
  const { source } = slice;
  if ('data' in source) return toKeyedInMemory(source.data, layout);
  const { file, offset } = source;
  const { rows, rowBytes, runs } = layout;
  return { key: JSON.stringify([file, offset, rows, rowBytes, runs]), layout, origin: { kind: 'file', file, offset } };
};

/** Sliced here, so that a thread is sent only what it writes. */
const toKeyedInMemory = (whole: Uint8Array, layout: SliceLayout): Omit<KeyedSlice, 'values'> => {
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
