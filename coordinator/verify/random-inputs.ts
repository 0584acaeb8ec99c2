/** Seeded inputs that make sense to a denoiser, told by an input's name and type. */

import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { mersenne } from 'pure-rand/generator/mersenne';
import { fromNumbers } from '../../common/elements.js';
import { elementCount, type HostTensor, type TensorSpec } from '../../common/tensor.js';
import { createRandomStream } from '../pipeline/random.js';

/** Diffusion models are trained on this many timesteps. */
const TRAIN_TIMESTEPS = 1000;
/** Ids below this are in the vocabulary of every text encoder. */
const SAFE_IDS = 100;
/** No model that knows classes has fewer. */
const SAFE_CLASSES = 10;
/** SDXL's `time_ids`: original height and width, crop top and left, target height and width, in pixels. */
const TIME_IDS = [1024, 1024, 0, 0, 1024, 1024] as const;

type Filler = (spec: TensorSpec, count: number) => ArrayLike<number>;

const INTEGERS: ReadonlySet<string> = new Set([
  'int8',
  'uint8',
  'int16',
  'uint16',
  'int32',
  'uint32',
  'int64',
  'uint64',
]);

const createFillers = (seed: number) => {
  const normals = createRandomStream(seed);
  const generator = mersenne(seed % 2 ** 32);
  const below = (limit: number): number => uniformInt(generator, 0, limit - 1);
  const list = (count: number, make: (index: number) => number): readonly number[] =>
    Array.from({ length: count }, (_, index) => make(index));
  const lastAxis = (spec: TensorSpec): number => spec.shape.at(-1) ?? 1;
  return {
    normal: (_, count) => normals.normal(count),
    /** Ones, then zeros for the padding; every row keeps at least half. */
    mask: (spec, count) => {
      const length = lastAxis(spec);
      const kept = length - below(Math.max(1, Math.floor(length / 2)));
      return list(count, (index) => (index % length < kept ? 1 : 0));
    },
    positions: (spec, count) => list(count, (index) => index % lastAxis(spec)),
    ids: (_, count) => list(count, () => below(SAFE_IDS)),
    classes: (_, count) => list(count, () => below(SAFE_CLASSES)),
    /** One value for the whole batch, as in a denoising loop. */
    timestep: (_, count) => new Array<number>(count).fill(below(TRAIN_TIMESTEPS)),
    timeIds: (_, count) => list(count, (index) => TIME_IDS[index % TIME_IDS.length] ?? 0),
  } satisfies Record<string, Filler>;
};

const chooseFiller = (spec: TensorSpec, fillers: ReturnType<typeof createFillers>): Filler => {
  if (/mask/i.test(spec.name) || spec.dtype === 'bool') return fillers.mask;
  if (/^(t|timesteps?)$/i.test(spec.name)) return fillers.timestep;
  if (/time_ids/i.test(spec.name)) return fillers.timeIds;
  if (/class/i.test(spec.name) && INTEGERS.has(spec.dtype)) return fillers.classes;
  if (/position/i.test(spec.name) && INTEGERS.has(spec.dtype)) return fillers.positions;
  return INTEGERS.has(spec.dtype) ? fillers.ids : fillers.normal;
};

/**
 * Inputs for one step. Floats are standard normal, timesteps 0 to 999, masks ones and then zeros, ids small.
 * The same specs and seed give the same bits.
 */
export const randomInputs = (specs: readonly TensorSpec[], seed: number): Readonly<Record<string, HostTensor>> => {
  const fillers = createFillers(seed);
  return Object.fromEntries(
    specs.map((spec) => [spec.name, fromNumbers(spec, chooseFiller(spec, fillers)(spec, elementCount(spec.shape)))]),
  );
};
