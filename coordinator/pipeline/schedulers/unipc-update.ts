/** UniPC's update (arXiv 2302.04867, equations 3 and 8), which predicts or, given the prediction at its target, corrects. */
import type { Visited } from './dpm-solver-updates.js';
import { at, f32, type Weighted, weightedSum, zipWith } from './float32.js';
import type { Level } from './solver-levels.js';

export interface UnifiedConfig {
  /** Whether predictions are denoised samples, or noise. */
  readonly predict_x0: boolean;
  readonly solver_type: 'bh1' | 'bh2';
}

/** Solves a small linear system by Gauss' elimination with pivots. */
const solve = (matrix: readonly (readonly number[])[], right: readonly number[]): number[] => {
  const rows = matrix.map((row, index) => [...row, at(right, index)]);
  const count = rows.length;
  rows.forEach((_, column) => {
    const pivot = rows
      .slice(column)
      .reduce((best, row) => (Math.abs(at(row, column)) > Math.abs(at(best, column)) ? row : best));
    rows.splice(column, 0, ...rows.splice(rows.indexOf(pivot), 1));
    for (let below = column + 1; below < count; below++) {
      const factor = at(rows[below] ?? [], column) / at(pivot, column);
      rows[below] = (rows[below] ?? []).map((value, index) => value - factor * at(pivot, index));
    }
  });
  const solution = new Array<number>(count).fill(0);
  for (let row = count - 1; row >= 0; row--) {
    const values = rows[row] ?? [];
    const known = solution.reduce((sum, value, index) => (index > row ? sum + value * at(values, index) : sum), 0);
    solution[row] = (at(values, count) - known) / at(values, row);
  }
  return solution;
};

/** The function B(h) by which the weights are scaled, and the right side of their equations, in float32. */
const equations = (type: UnifiedConfig['solver_type'], h: number, order: number) => {
  const phi1 = f32(Math.expm1(h));
  const scale = type === 'bh1' ? h : phi1;
  const right: number[] = [];
  let phi = f32(f32(phi1 / h) - 1);
  let factorial = 1;
  for (let power = 1; power <= order; power++) {
    right.push(f32(f32(phi * factorial) / scale));
    factorial *= power + 1;
    phi = f32(f32(phi / h) - 1 / factorial);
  }
  return { phi1, scale, right };
};

/** Rows of powers of the distances. */
const powers = (ratios: readonly number[]): number[][] =>
  ratios.map((_, power) => ratios.map((ratio) => f32(ratio ** power)));

/** Weights of the differences; that of a single one is taken to be a half, as in the paper. */
const weightsOf = (ratios: readonly number[], right: readonly number[]): readonly number[] =>
  ratios.length === 1 ? [0.5] : solve(powers(ratios), right.slice(0, ratios.length));

/**
 * The sample at `target`.
 * @param history what was predicted where, newest first; the step is taken from the newest
 * @param ahead the prediction at the target, which makes it a correction
 */
export const unifiedUpdate = (
  config: UnifiedConfig,
  target: Level,
  sample: Float32Array,
  history: readonly Visited[],
  ahead?: Float32Array,
): Float32Array => {
  const [now, ...before] = history;
  if (now === undefined) throw new RangeError('A step needs a prediction to start from.');
  const step = f32(target.lambda - now.level.lambda);
  const h = config.predict_x0 ? -step : step;
  const { phi1, scale, right } = equations(config.solver_type, h, history.length);
  const past = before.map(({ level, prediction }) => {
    const ratio = f32(f32(level.lambda - now.level.lambda) / step);
    return { ratio, difference: zipWith(prediction, now.prediction, (x, y) => f32(x - y) / ratio) };
  });
  const next = ahead && { ratio: 1, difference: zipWith(ahead, now.prediction, (x, y) => x - y) };
  const terms = next ? [...past, next] : past;
  const [keep, gain] = config.predict_x0
    ? [f32(target.sigma / now.level.sigma), target.alpha]
    : [f32(target.alpha / now.level.alpha), target.sigma];
  const first = f32(gain * phi1);
  const base = zipWith(sample, now.prediction, (x, prediction) => f32(keep * x) - f32(first * prediction));
  // Without a term the scale is not read: at the end of an image it may be infinite.
  if (terms.length === 0) return base;
  const weights = weightsOf(
    terms.map(({ ratio }) => ratio),
    right,
  );
  const change = weightedSum(
    terms.map(({ difference }, index): Weighted => [at(weights, index), difference]),
    sample.length,
  );
  const factor = f32(gain * scale);
  return zipWith(base, change, (x, y) => x - f32(factor * y));
};
