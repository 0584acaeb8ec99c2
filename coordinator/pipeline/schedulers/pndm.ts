/**
 * "Pseudo Numerical Methods for Diffusion Models", arXiv 2202.09778: linear multistep of order 4, started by Runge and Kutta's method
 * (equations 9, 12 and 13) or, with `skip_prk_steps`, by lower orders; `PNDMScheduler` in diffusers. Stable Diffusion 1's default.
 * Calls of the network are more than steps: 9 more with the Runge-Kutta start, one more without it.
 */
import { z } from 'zod';
import { requestError } from '../errors.js';
import { at, f32, roundHalfEven, type Weighted, weightedSum, zipWith } from './float32.js';
import { alphaProducts, noiseScheduleKeys } from './noise-schedule.js';
import { noiseIn, noiseOrVelocity, scalesOf } from './predictions.js';
import type { ScheduleRequest, Scheduler } from './scheduler.js';
import { stepsOffset } from './shared-options.js';
import { checkTimesteps, spacedTimesteps, timestepSpacing } from './timestep-spacing.js';
import { createMemory } from './two-stage.js';

export const pndmConfig = z.object({
  ...noiseScheduleKeys,
  skip_prk_steps: z.boolean().default(false),
  set_alpha_to_one: z.boolean().default(false),
  prediction_type: noiseOrVelocity,
  timestep_spacing: timestepSpacing.default('leading'),
  steps_offset: stepsOffset,
});
export type PndmConfig = z.infer<typeof pndmConfig>;

/** Steps that start by Runge and Kutta, the last of which is a multistep one; each of the others has four calls. */
const STARTING_STEPS = 4;
const STAGES = 4;

/** Weights of the last predictions, newest first, by how many there are (Adams and Bashforth). */
const MULTISTEP: readonly (readonly number[])[] = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];

/** Weights of a Runge-Kutta step's four predictions. */
const RUNGE_KUTTA = [1 / 6, 1 / 3, 1 / 3, 1 / 6];

/** A call of the network: its timestep, and the step that its prediction is used for. */
interface Call {
  readonly timestep: number;
  readonly from: number;
  readonly to: number;
  /** Calls whose predictions are mixed, with their weights; the call from whose sample the step is taken. */
  readonly mix: readonly (readonly [call: number, weight: number])[];
  readonly base: number;
}

const weighted = (calls: readonly number[], weights: readonly number[]): Call['mix'] =>
  calls.map((call, index) => [call, at(weights, index)] as const);

/** Multistep calls from `first` on; `known` are the calls before whose predictions are looked back on, oldest first. */
const multistepCalls = (
  timesteps: readonly number[],
  stride: number,
  first: number,
  known: readonly number[],
): readonly Call[] =>
  timesteps.map((timestep, index) => {
    const call = first + index;
    const past = [...known, ...Array.from({ length: index + 1 }, (_, step) => first + step)].reverse().slice(0, 4);
    const mix = weighted(past, MULTISTEP[past.length - 1] ?? []);
    return { timestep, from: timestep, to: timestep - stride, mix, base: call };
  });

/** Without the Runge-Kutta start the first step is taken twice, the second time with the mean of the slopes at both ends. */
const plainCalls = (ascending: readonly number[], stride: number): readonly Call[] => {
  const [first = 0, ...rest] = [...ascending].reverse();
  const start: Call = { timestep: first, from: first, to: first - stride, mix: [[0, 1]], base: 0 };
  const [second] = rest;
  if (second === undefined) return [start];
  const again: Call = {
    timestep: second,
    from: second + stride,
    to: second,
    mix: [
      [1, 1 / 2],
      [0, 1 / 2],
    ],
    base: 0,
  };
  return [start, again, ...multistepCalls(rest, stride, 2, [0])];
};

const rungeKuttaCalls = (ascending: readonly number[], stride: number): readonly Call[] => {
  if (ascending.length < STARTING_STEPS)
    throw requestError(
      `PNDM with its Runge-Kutta start needs at least ${STARTING_STEPS} steps, found ${ascending.length}. Ask for more, or set skip_prk_steps in scheduler_config.json.`,
    );
  const half = Math.floor(stride / 2);
  const descending = [...ascending].reverse();
  const start = descending.slice(0, STARTING_STEPS - 1).flatMap((top, step): readonly Call[] => {
    const below = at(descending, step + 1);
    const base = step * STAGES;
    const stage = (timestep: number, to: number, mix: Call['mix']): Call => ({ timestep, from: top, to, mix, base });
    return [
      stage(top, top - half, [[base, 1]]),
      stage(below + half, below + half, [[base + 1, 1]]),
      stage(below + half, below + half - half, [[base + 2, 1]]),
      stage(below, below, weighted([base, base + 1, base + 2, base + 3], RUNGE_KUTTA)),
    ];
  });
  const known = [0, STAGES, 2 * STAGES];
  return [...start, ...multistepCalls(descending.slice(STARTING_STEPS - 1), stride, start.length, known)];
};

const callsOf = (config: PndmConfig, count: number): readonly Call[] => {
  const ascending = spacedTimesteps({
    spacing: config.timestep_spacing,
    numTrainTimesteps: config.num_train_timesteps,
    numInferenceSteps: count,
    stepsOffset: config.steps_offset,
  })
    .map(roundHalfEven)
    .reverse();
  const stride = Math.floor(config.num_train_timesteps / count);
  return config.skip_prk_steps ? plainCalls(ascending, stride) : rungeKuttaCalls(ascending, stride);
};

/** Equation 9 of the paper, in diffusers' form: from one alpha product to another. */
const transfer = (sample: Float32Array, noise: Float32Array, from: number, to: number): Float32Array => {
  const [fromRest, toRest] = [f32(1 - from), f32(1 - to)];
  const keep = f32(Math.sqrt(f32(to / from)));
  const divisor = f32(f32(from * f32(Math.sqrt(toRest))) + f32(Math.sqrt(f32(f32(from * fromRest) * to))));
  const change = f32(to - from);
  return zipWith(sample, noise, (x, epsilon) => f32(keep * x) - f32(f32(change * epsilon) / divisor));
};

/** Makes the schedule of one image. */
export const createPndm = (config: PndmConfig, { numInferenceSteps }: ScheduleRequest): Scheduler => {
  const products = alphaProducts(config);
  const finalProduct = config.set_alpha_to_one ? 1 : at(products, 0);
  const productAt = (timestep: number): number => (timestep >= 0 ? at(products, timestep) : finalProduct);
  const calls = callsOf(config, numInferenceSteps);
  const timesteps = checkTimesteps(
    calls.map(({ timestep }) => timestep),
    config.num_train_timesteps,
  );
  const outputs = createMemory<Float32Array>();
  const samples = createMemory<Float32Array>();
  const mixed = (mix: Call['mix'], length: number): Float32Array =>
    weightedSum(
      mix.map(([call, weight]): Weighted => [weight, outputs.of(call)]),
      length,
    );

  return {
    timesteps,
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    step(modelOutput, index, sample) {
      const call = calls[index];
      if (call === undefined) throw new RangeError(`Call ${index} is outside a schedule of ${calls.length} calls.`);
      outputs.keep(index, modelOutput);
      samples.keep(index, sample);
      const from = productAt(call.from);
      const base = samples.of(call.base);
      const noise = noiseIn(config.prediction_type, mixed(call.mix, sample.length), base, scalesOf(from));
      return transfer(base, noise, from, productAt(call.to));
    },
  };
};
