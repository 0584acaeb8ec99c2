/**
 * Inside the compute thread: runs a segment by itself, on numbers that are the same every time, and says what came of it in a digest.
 * A segment that has the digest of before computes what it computed before, whatever became of its weights' file or memory.
 */
import { createHash } from 'node:crypto';
import { type HostTensor, isKnownSpec, type OpenSpec, type TensorSpec } from '../common/tensor.js';
import type { LoadedSegment } from './bound-program.js';
import type { BufferPool } from './buffers.js';

/** Of a segment whose sizes are all known beforehand: others cannot be made up. */
const specsOf = ({ session, entry }: LoadedSegment) => {
  const inputs: readonly OpenSpec[] = session.inputs.map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: shape.map((size) => (typeof size === 'number' ? size : null)),
  }));
  const known = { inputs: inputs.filter(isKnownSpec), outputs: entry.outputs.filter(isKnownSpec) };
  return known.inputs.length === inputs.length && known.outputs.length === entry.outputs.length ? known : undefined;
};

/** A multiplicative hash of each place (Knuth): without a generator, and no two rows are alike. */
const fillWords = (words: Uint32Array | Uint16Array, base: number, random: number): void => {
  for (let place = 0; place < words.length; place++) words[place] = base | (Math.imul(place + 1, 0x9e37_79b1) & random);
};

/** Floating point numbers of either sign between 1 and 2 in size, or for half precision some near it; whole ones are indices that exist. */
const PATTERNS: Readonly<Partial<Record<TensorSpec['dtype'], (data: Uint8Array) => void>>> = {
  float32: (data) =>
    fillWords(new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4), 0x3f80_0000, 0x807f_ffff),
  float16: (data) => fillWords(new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2), 0x3c00, 0x83ff),
  bfloat16: (data) => fillWords(new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2), 0x3f80, 0x807f),
};

const fill = ({ dtype, data }: HostTensor): void => {
  const pattern = PATTERNS[dtype];
  if (pattern === undefined) data.fill(0);
  else pattern(data);
};

/**
 * Runs a segment by itself.
 * @param memory of which nothing is in use; what it holds is written over
 * @returns a digest of the outputs; undefined where sizes are only known once the peers have spoken
 */
export const rehearse = async (segment: LoadedSegment, memory: BufferPool): Promise<string | undefined> => {
  const specs = specsOf(segment);
  if (specs === undefined) return undefined;
  memory.giveAll();
  const take = (all: readonly TensorSpec[]) => Object.fromEntries(all.map((spec) => [spec.name, memory.tensor(spec)]));
  const [feeds, outputs] = [take(specs.inputs), take(specs.outputs)];
  for (const tensor of Object.values(feeds)) fill(tensor);
  await segment.session.bind(feeds, outputs)();
  const hash = createHash('sha256');
  for (const { data } of Object.values(outputs)) hash.update(data);
  return hash.digest('base64');
};
