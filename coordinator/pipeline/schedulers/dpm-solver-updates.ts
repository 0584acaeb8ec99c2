/**
 * The update formulas of DPM-Solver (arXiv 2206.00927), DPM-Solver++ (arXiv 2211.01095, appendix B) and their stochastic forms, as
 * in diffusers. An update is a weighted sum of the sample, a prediction, its slope and curvature, and fresh noise; the weights are data
 * of the algorithm, and what slope and curvature are differs between multistep and singlestep.
 */
import { f32, zipWith } from './float32.js';
import type { Level } from './solver-levels.js';

export const ALGORITHMS = ['dpmsolver++', 'dpmsolver', 'sde-dpmsolver++', 'sde-dpmsolver'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];
export type SolverType = 'midpoint' | 'heun';

/** Whether the algorithm works on denoised samples or on noise. */
export const predictsDenoised = (algorithm: Algorithm): boolean => algorithm.endsWith('++');
export const isStochastic = (algorithm: Algorithm): boolean => algorithm.startsWith('sde-');

/** A level that was stepped from, with what was predicted there. */
export interface Visited {
  readonly level: Level;
  readonly prediction: Float32Array;
}

interface Weights {
  readonly sample: number;
  readonly prediction: number;
  /** Of the slope, by solver type: taken in the middle, or integrated exactly. */
  readonly slope: Readonly<Record<SolverType, number>>;
  readonly curvature: number;
  readonly noise: number;
}

const exp = (value: number): number => f32(Math.exp(value));

/** Weights of a step over `h` in lambda, in float32, operation by operation. */
const WEIGHTS: Readonly<Record<Algorithm, (target: Level, source: Level, h: number) => Weights>> = {
  'dpmsolver++': (target, source, h) => {
    const decay = f32(exp(-h) - 1);
    return {
      sample: f32(target.sigma / source.sigma),
      prediction: -f32(target.alpha * decay),
      slope: {
        midpoint: f32(-0.5 * f32(target.alpha * decay)),
        heun: f32(target.alpha * f32(f32(decay / h) + 1)),
      },
      curvature: -f32(target.alpha * f32(f32(f32(decay + h) / f32(h * h)) - 0.5)),
      noise: 0,
    };
  },
  dpmsolver: (target, source, h) => {
    const growth = f32(exp(h) - 1);
    return {
      sample: f32(target.alpha / source.alpha),
      prediction: -f32(target.sigma * growth),
      slope: {
        midpoint: f32(-0.5 * f32(target.sigma * growth)),
        heun: -f32(target.sigma * f32(f32(growth / h) - 1)),
      },
      curvature: -f32(target.sigma * f32(f32(f32(growth - h) / f32(h * h)) - 0.5)),
      noise: 0,
    };
  },
  'sde-dpmsolver++': (target, source, h) => {
    const decayed = f32(1 - exp(-2 * h));
    const twice = f32(-2 * h);
    return {
      sample: f32(f32(target.sigma / source.sigma) * exp(-h)),
      prediction: f32(target.alpha * decayed),
      slope: {
        midpoint: f32(0.5 * f32(target.alpha * decayed)),
        heun: f32(target.alpha * f32(f32(decayed / twice) + 1)),
      },
      curvature: f32(target.alpha * f32(f32(f32(decayed + twice) / f32(twice * twice)) - 0.5)),
      noise: f32(target.sigma * f32(Math.sqrt(decayed))),
    };
  },
  'sde-dpmsolver': (target, source, h) => {
    const growth = f32(exp(h) - 1);
    return {
      sample: f32(target.alpha / source.alpha),
      prediction: -f32(2 * f32(target.sigma * growth)),
      slope: {
        midpoint: -f32(target.sigma * growth),
        heun: -f32(2 * f32(target.sigma * f32(f32(growth / h) - 1))),
      },
      // diffusers has no third order of it, and configs that ask for one are refused.
      curvature: Number.NaN,
      noise: f32(target.sigma * f32(Math.sqrt(f32(exp(2 * h) - 1)))),
    };
  },
};

export interface Update {
  readonly algorithm: Algorithm;
  readonly solverType: SolverType;
  readonly target: Level;
  /** The sample that the step is taken from, and where it was. */
  readonly sample: Float32Array;
  readonly source: Level;
  readonly prediction: Float32Array;
  readonly slope?: Float32Array;
  readonly curvature?: Float32Array;
  /** Fresh noise; read by stochastic algorithms only. */
  readonly noise?: Float32Array;
}

const plus = (base: Float32Array, weight: number, term: Float32Array | undefined): Float32Array =>
  term === undefined ? base : zipWith(base, term, (x, y) => x + f32(weight * y));

/** The sample at `target`. */
export const update = (step: Update): Float32Array => {
  const h = f32(step.target.lambda - step.source.lambda);
  const weights = WEIGHTS[step.algorithm](step.target, step.source, h);
  const kept = step.sample.map((x) => weights.sample * x);
  const first = plus(kept, weights.prediction, step.prediction);
  const second = plus(first, weights.slope[step.solverType], step.slope);
  return plus(plus(second, weights.curvature, step.curvature), weights.noise, step.noise);
};

/** `factor * (left - right)`. */
const difference = (factor: number, left: Float32Array, right: Float32Array): Float32Array =>
  zipWith(left, right, (x, y) => factor * f32(x - y));

const distance = (left: Visited, right: Visited): number => f32(left.level.lambda - right.level.lambda);

type Derivatives = Pick<Update, 'source' | 'prediction' | 'slope' | 'curvature'> & Partial<Pick<Update, 'solverType'>>;

/** Order 3 has its slope integrated exactly, whatever the solver type says. */
const EXACT = { solverType: 'heun' } as const;

/** Multistep, order 2: the slope between this prediction and the one before. */
export const multistepSecond = (target: Level, now: Visited, before: Visited): Derivatives => {
  const h = f32(target.lambda - now.level.lambda);
  const ratio = f32(distance(now, before) / h);
  const slope = difference(f32(1 / ratio), now.prediction, before.prediction);
  return { source: now.level, prediction: now.prediction, slope };
};

/** Multistep, order 3: slope and curvature through this prediction and the two before. */
export const multistepThird = (target: Level, now: Visited, before: Visited, beforeThat: Visited): Derivatives => {
  const h = f32(target.lambda - now.level.lambda);
  const [near, far] = [f32(distance(now, before) / h), f32(distance(before, beforeThat) / h)];
  const nearSlope = difference(f32(1 / near), now.prediction, before.prediction);
  const farSlope = difference(f32(1 / far), before.prediction, beforeThat.prediction);
  const span = f32(near + far);
  const bend = zipWith(nearSlope, farSlope, (x, y) => x - y);
  return {
    ...EXACT,
    source: now.level,
    prediction: now.prediction,
    slope: plus(nearSlope, f32(near / span), bend),
    curvature: bend.map((value) => f32(1 / span) * value),
  };
};

/** Singlestep, order 2: from the block's start, with the slope to this prediction. */
export const singlestepSecond = (target: Level, now: Visited, start: Visited): Derivatives => {
  const h = f32(target.lambda - start.level.lambda);
  const ratio = f32(distance(now, start) / h);
  const slope = difference(f32(1 / ratio), now.prediction, start.prediction);
  return { source: start.level, prediction: start.prediction, slope };
};

/** Singlestep, order 3: from the block's start, with slope and curvature through the two predictions after it. */
export const singlestepThird = (
  type: SolverType,
  target: Level,
  now: Visited,
  before: Visited,
  start: Visited,
): Derivatives => {
  const h = f32(target.lambda - start.level.lambda);
  const [far, near] = [f32(distance(now, start) / h), f32(distance(before, start) / h)];
  const nearSlope = difference(f32(1 / near), before.prediction, start.prediction);
  const farSlope = difference(f32(1 / far), now.prediction, start.prediction);
  const source = { ...EXACT, source: start.level, prediction: start.prediction };
  if (type === 'midpoint') return { ...source, slope: farSlope };
  const span = f32(far - near);
  return {
    ...source,
    slope: zipWith(nearSlope, farSlope, (x, y) => f32(f32(far * x) - f32(near * y)) / span),
    curvature: zipWith(farSlope, nearSlope, (x, y) => f32(2 * f32(x - y)) / span),
  };
};
