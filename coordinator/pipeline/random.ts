/**
 * Seeded normal noise with the numbers of `torch.randn` on the CPU in float32, so that a seed gives the picture that it
 * gives in diffusers. The bits come from MT19937; PyTorch turns them into normals by Box-Muller in two ways, by size
 * (ATen, `DistributionTemplates.h`, `normal_fill` and `normal_distribution`).
 */
import { mersenne } from 'pure-rand/generator/mersenne';
import { requestError } from './errors.js';

const BLOCK = 16;
const HALF = BLOCK / 2;

/** A stream of random numbers: each call continues where the last one ended, as a `torch.Generator` does. */
export interface RandomStream {
  /** `count` standard normal values. */
  normal(count: number): Float32Array;
}

/** Turns 16 uniforms at `offset` into 16 normals, in place: the first 8 are radii, the last 8 angles. */
const transformBlock = (values: Float32Array, offset: number): void => {
  for (let lane = offset; lane < offset + HALF; lane++) {
    const radius = Math.sqrt(-2 * Math.log(1 - (values[lane] ?? 0)));
    const angle = 2 * Math.PI * (values[lane + HALF] ?? 0);
    values[lane] = radius * Math.cos(angle);
    values[lane + HALF] = radius * Math.sin(angle);
  }
};

const checkSeed = (seed: number): void => {
  if (Number.isSafeInteger(seed) && seed >= 0) return;
  throw requestError(`Expected the seed to be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, found ${seed}.`);
};

/**
 * The stream of `torch.Generator('cpu').manual_seed(seed)`, of whose seed MT19937 reads the low 32 bits.
 * @throws TandemError `REQUEST_INVALID` for a seed that is negative or not a whole number
 */
export const createRandomStream = (seed: number): RandomStream => {
  checkSeed(seed);
  const generator = mersenne(seed % 2 ** 32);
  let cached: number | undefined;

  const uniform24 = (): number => (generator.next() & 0xffffff) / 2 ** 24;
  const uniform53 = (): number => {
    const high = generator.next() & 0x1fffff;
    return (high * 2 ** 32 + (generator.next() >>> 0)) / 2 ** 53;
  };

  const normalFill = (count: number): Float32Array => {
    const values = Float32Array.from({ length: count }, uniform24);
    for (let offset = 0; offset + BLOCK <= count; offset += BLOCK) transformBlock(values, offset);
    if (count % BLOCK !== 0) {
      // A rest is not a short block: the last 16 values are drawn anew, over some that were already made.
      for (let index = count - BLOCK; index < count; index++) values[index] = uniform24();
      transformBlock(values, count - BLOCK);
    }
    return values;
  };

  const nextNormal = (): number => {
    if (cached !== undefined) {
      const value = cached;
      cached = undefined;
      return value;
    }
    const angle = 2 * Math.PI * uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-uniform53()));
    cached = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };

  return { normal: (count) => (count >= BLOCK ? normalFill(count) : Float32Array.from({ length: count }, nextNormal)) };
};
