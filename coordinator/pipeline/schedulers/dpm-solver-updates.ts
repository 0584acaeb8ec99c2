/**
 * The update formulas of DPM-Solver++ in data prediction (arXiv 2211.01095, appendix B; multistep forms as in
 * `DPMSolverMultistepScheduler` of diffusers). Each is the one below it plus a term, so that they are added here as well.
 */
import { f32, zipWith } from './float32.js';

/** Signal and noise scale of a variance-preserving process at a noise level, and the log of their ratio. */
export interface Level {
  readonly alpha: number;
  readonly sigma: number;
  readonly lambda: number;
}

/** @param sigma ratio of noise to signal */
export const levelOf = (sigma: number): Level => {
  const alpha = f32(1 / f32(Math.sqrt(f32(f32(sigma * sigma) + 1))));
  const scaled = f32(sigma * alpha);
  return { alpha, sigma: scaled, lambda: f32(f32(Math.log(alpha)) - f32(Math.log(scaled))) };
};

/** A level that was stepped from, with the denoised sample that was predicted there. */
export interface Visited {
  readonly level: Level;
  readonly original: Float32Array;
}

export type SolverType = 'midpoint' | 'heun';

const add = (base: Float32Array, factor: number, term: Float32Array): Float32Array =>
  zipWith(base, term, (x, y) => x + f32(factor * y));

/** Length of the step in lambda, and `exp(-h) - 1`. */
const stride = (target: Level, source: Level): { readonly h: number; readonly decay: number } => {
  const h = f32(target.lambda - source.lambda);
  return { h, decay: f32(f32(Math.exp(-h)) - 1) };
};

/** Slope of the denoised sample between two visits, per step of length `h`; `ratio` is their distance in such steps. */
const slope = (now: Visited, before: Visited, h: number): { readonly ratio: number; readonly values: Float32Array } => {
  const ratio = f32(f32(now.level.lambda - before.level.lambda) / h);
  const inverse = f32(1 / ratio);
  return { ratio, values: zipWith(now.original, before.original, (x, y) => inverse * f32(x - y)) };
};

/** Order 1, which is DDIM: `x_t = sigma_t / sigma_s x_s - alpha_t (exp(-h) - 1) x0`. */
export const firstOrder = (target: Level, source: Visited, sample: Float32Array): Float32Array => {
  const { decay } = stride(target, source.level);
  const keep = f32(target.sigma / source.level.sigma);
  const gain = f32(target.alpha * decay);
  return zipWith(sample, source.original, (x, x0) => f32(keep * x) - f32(gain * x0));
};

/** Weight of the slope where it is integrated exactly: `alpha_t ((exp(-h) - 1) / h + 1)`. */
const exactSlopeWeight = (target: Level, h: number, decay: number): number =>
  f32(target.alpha * f32(f32(decay / h) + 1));

/** Order 2: order 1 plus the slope between this denoised sample and the one before. */
export const secondOrder = (
  type: SolverType,
  target: Level,
  source: Visited,
  before: Visited,
  sample: Float32Array,
): Float32Array => {
  const { h, decay } = stride(target, source.level);
  const weight = type === 'heun' ? exactSlopeWeight(target, h, decay) : f32(-0.5 * f32(target.alpha * decay));
  return add(firstOrder(target, source, sample), weight, slope(source, before, h).values);
};

/** Order 3: order 1 plus slope and curvature through this denoised sample and the two before. */
export const thirdOrder = (
  target: Level,
  source: Visited,
  before: Visited,
  beforeThat: Visited,
  sample: Float32Array,
): Float32Array => {
  const { h, decay } = stride(target, source.level);
  const near = slope(source, before, h);
  const far = slope(before, beforeThat, h);
  const bend = zipWith(near.values, far.values, (x, y) => x - y);
  const span = f32(near.ratio + far.ratio);
  const slopeHere = add(near.values, f32(near.ratio / span), bend);
  const curvature = bend.map((value) => f32(1 / span) * value);
  const curvatureWeight = f32(target.alpha * f32(f32(f32(decay + h) / f32(h * h)) - 0.5));
  const withSlope = add(firstOrder(target, source, sample), exactSlopeWeight(target, h, decay), slopeHere);
  return add(withSlope, -curvatureWeight, curvature);
};
