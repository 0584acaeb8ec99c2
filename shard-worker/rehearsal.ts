/**
 * Inside the compute thread: runs a segment by itself, on numbers that are the same every time, and says what came of it in a digest.
 * A segment that has the digest of before computes what it computed before, whatever became of its weights' file or memory.
 */
import { type HostTensor, isKnownSpec, type OpenSpec, type TensorSpec } from '../common/tensor.js';
import type { LoadedSegment } from './bound-program.js';
import type { BufferPool } from './buffers.js';

/** Of a segment whose sizes are all known beforehand, as others cannot be made up, and whose outputs come to the host. */
const specsOf = ({ session, entry, kept }: LoadedSegment) => {
  if (kept.length > 0) return undefined;
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

/** Floating point numbers of either sign between 1 and 2 in size; whole ones are 0, an index that exists. */
const fillerOf = ({ dtype, data: { buffer, byteOffset, byteLength } }: HostTensor): (() => void) => {
  switch (dtype) {
    case 'float32': {
      const words = new Uint32Array(buffer, byteOffset, byteLength / 4);
      return () => fillWords(words, 0x3f80_0000, 0x807f_ffff);
    }
    case 'float16':
    case 'bfloat16': {
      const words = new Uint16Array(buffer, byteOffset, byteLength / 2);
      return () => (dtype === 'float16' ? fillWords(words, 0x3c00, 0x83ff) : fillWords(words, 0x3f80, 0x807f));
    }
    default: {
      const bytes = new Uint8Array(buffer, byteOffset, byteLength);
      return () => void bytes.fill(0);
    }
  }
};

const wordsOf = ({ data: { buffer, byteOffset, byteLength } }: HostTensor): Uint32Array | Uint8Array =>
  byteOffset % 4 === 0 && byteLength % 4 === 0
    ? new Uint32Array(buffer, byteOffset, byteLength / 4)
    : new Uint8Array(buffer, byteOffset, byteLength);

/** Two sums of 32 bits (FNV-1a's, and one by places). A hash of `node:crypto` leaves native memory to a collection that hardly ever comes. */
const digestOf = (tensors: readonly (Uint32Array | Uint8Array)[]): string => {
  let [first, second] = [0x811c_9dc5, 0];
  for (const words of tensors)
    for (let place = 0; place < words.length; place++) {
      const word = words[place] ?? 0;
      first = Math.imul(first ^ word, 0x0100_0193);
      second = (Math.imul(second, 31) + word) | 0;
    }
  return `${first >>> 0}/${second >>> 0}`;
};

/** A segment on memory of its own choosing, tied once: what is made anew at every run is left to be collected for a long time. */
export interface Rehearsal {
  /** Runs it. @returns a digest of the outputs */
  run(): Promise<string>;
}

/**
 * Prepares a segment to be run by itself.
 * @param memory of which nothing is in use when it runs; what it holds is written over then
 * @returns undefined where sizes are only known once the peers have spoken, or outputs stay on the device
 */
export const prepareRehearsal = (segment: LoadedSegment, memory: BufferPool): Rehearsal | undefined => {
  const specs = specsOf(segment);
  if (specs === undefined) return undefined;
  memory.giveAll();
  const take = (all: readonly TensorSpec[]) => Object.fromEntries(all.map((spec) => [spec.name, memory.tensor(spec)]));
  const [feeds, outputs] = [take(specs.inputs), take(specs.outputs)];
  const fillers = Object.values(feeds).map(fillerOf);
  const words = Object.values(outputs).map(wordsOf);
  const run = segment.session.bind(feeds, outputs);
  return {
    async run() {
      for (const fill of fillers) fill();
      await run();
      return digestOf(words);
    },
  };
};
