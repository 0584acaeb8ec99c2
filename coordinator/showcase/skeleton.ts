/**
 * A skeleton is a real export without its weights (models/export/README.md): `NAME.onnx.gz`, the graph as it was exported, and
 * `NAME.weights.json.gz`, what stands where in the `weights.bin` that the graph points at. Here it becomes a model that runs, with
 * seeded normal values that have each weight's own mean and standard deviation. The same skeleton and seed give the same bytes.
 */
import { type FileHandle, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Float16Array } from '@petamoriken/float16';
import { z } from 'zod';
import { checkCancelled, type Hooks } from '../hooks.js';

const skeletonWeight = z.object({
  name: z.string(),
  /** Bytes in `weights.bin`, as `length` is. */
  offset: z.number(),
  length: z.number(),
  dtype: z.enum(['float32', 'float16']),
  shape: z.array(z.number()),
  mean: z.number(),
  std: z.number(),
});

/** A weight that the skeleton leaves out. */
export type SkeletonWeight = Readonly<z.output<typeof skeletonWeight>>;

export const WEIGHTS_FILE = 'weights.bin';

const TABLE_SIZE = 1 << 16;
const CHUNK_VALUES = 1 << 21;

/** Mulberry32 by Tommy Ettinger (public domain): uniform values in [0, 1). Only fills the table. */
const uniform = (seed: number) => {
  let state = seed >>> 0;
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
};

/** Standard normal values by the Box-Muller transform. */
const normalTable = (seed: number): Float32Array => {
  const next = uniform(seed);
  const table = new Float32Array(TABLE_SIZE);
  for (let index = 0; index < TABLE_SIZE; index += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    table[index] = radius * Math.cos(angle);
    table[index + 1] = radius * Math.sin(angle);
  }
  return table;
};

/**
 * Fills the view with normal values drawn from the table by xorshift32 (Marsaglia 2003, "Xorshift RNGs").
 * @returns the generator's state, to go on with
 */
const fill = (view: Float32Array, table: Float32Array, { mean, std }: SkeletonWeight, start: number): number => {
  let state = start;
  for (let index = 0; index < view.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    view[index] = mean + std * (table[state & (TABLE_SIZE - 1)] ?? 0);
  }
  return state;
};

const BYTES = { float32: 4, float16: 2 } as const;

/** The values as they lie in the file. */
const encode = (view: Float32Array, dtype: SkeletonWeight['dtype']): Uint8Array => {
  const { buffer, byteOffset, byteLength } = dtype === 'float16' ? new Float16Array(view) : view;
  return new Uint8Array(buffer, byteOffset, byteLength);
};

/** @yields how many bytes were written */
async function* writeWeight(
  file: FileHandle,
  weight: SkeletonWeight,
  table: Float32Array,
  chunk: Float32Array,
  seed: number,
): AsyncGenerator<number> {
  // Never 0, which is the one state that xorshift cannot leave.
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  for (let written = 0; written < weight.length; ) {
    const view = chunk.subarray(0, Math.min(chunk.length, (weight.length - written) / BYTES[weight.dtype]));
    state = fill(view, table, weight, state);
    const bytes = encode(view, weight.dtype);
    await file.writev([bytes], weight.offset + written);
    written += bytes.byteLength;
    yield bytes.byteLength;
  }
}

const readPart = async (path: string): Promise<Buffer> => gunzipSync(await readFile(path));

/**
 * The weights that a skeleton leaves out, by ascending offset.
 * @param skeleton its path without an ending
 */
export const readSkeletonWeights = async (skeleton: string): Promise<readonly SkeletonWeight[]> =>
  z.array(skeletonWeight).parse(JSON.parse((await readPart(`${skeleton}.weights.json.gz`)).toString('utf8')));

/**
 * Writes a skeleton's graph as `model.onnx`, without the weights that it points at.
 * @param directory is made where it does not exist
 * @returns the path of `model.onnx`
 */
export const writeSkeletonGraph = async (skeleton: string, directory: string): Promise<string> => {
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'model.onnx');
  await writeFile(path, await readPart(`${skeleton}.onnx.gz`));
  return path;
};

/**
 * Writes `model.onnx` and its `weights.bin`, in constant memory.
 * @param directory is made where it does not exist
 * @returns the path of `model.onnx`
 * @throws the signal's reason when it aborts
 */
export const fillSkeleton = async (
  skeleton: string,
  directory: string,
  seed = 0,
  { onProgress, signal }: Hooks = {},
): Promise<string> => {
  const path = await writeSkeletonGraph(skeleton, directory);
  const weights = await readSkeletonWeights(skeleton);
  const total = weights.reduce((sum, { length }) => sum + length, 0);
  const table = normalTable(seed + 1);
  const chunk = new Float32Array(CHUNK_VALUES);
  let done = 0;
  const file = await open(join(directory, WEIGHTS_FILE), 'w');
  try {
    for (const [index, weight] of weights.entries()) {
      for await (const bytes of writeWeight(file, weight, table, chunk, seed * 1_000_003 + index + 1)) {
        checkCancelled(signal);
        done += bytes;
        onProgress?.('weights', done, total);
      }
    }
  } finally {
    await file.close();
  }
  return path;
};
