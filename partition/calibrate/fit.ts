/** From measured operators to rates: least squares of relative errors, with no negative times. */

import { workMs } from '../plan/cost.js';
import { type ClassRates, type Rates, scaleRates } from '../plan/rates.js';
import type { Measured, Point, Stretch } from './measure.js';

/** What a time is a sum of: once, per flop, per byte read and per byte written. */
const features = ({ flops, readBytes, writtenBytes }: Point): readonly number[] => [1, flops, readBytes, writtenBytes];

/** Relative errors count less below this, in ms. */
const NOISE_MS = 0.003;

/** Solves a small symmetric system by elimination; undefined where it is singular. */
const solve = (matrix: readonly (readonly number[])[], right: readonly number[]): readonly number[] | undefined => {
  const rows = matrix.map((row, i) => [...row, right[i] ?? 0]);
  for (let column = 0; column < rows.length; column++) {
    const pivot = rows
      .slice(column)
      .reduce((best, row) => (Math.abs(row[column] ?? 0) > Math.abs(best[column] ?? 0) ? row : best));
    const at = rows.indexOf(pivot);
    const head = pivot[column] ?? 0;
    if (Math.abs(head) < 1e-12) return undefined;
    [rows[at], rows[column]] = [rows[column] ?? [], pivot];
    for (const row of rows) {
      if (row === pivot) continue;
      const factor = (row[column] ?? 0) / head;
      for (let i = column; i < row.length; i++) row[i] = (row[i] ?? 0) - factor * (pivot[i] ?? 0);
    }
  }
  return rows.map((row, i) => (row.at(-1) ?? 0) / (row[i] ?? 1));
};

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

/** Every choice of the features. */
const subsets = (count: number): readonly (readonly number[])[] =>
  Array.from({ length: 2 ** count - 1 }, (_, bits) =>
    Array.from({ length: count }, (__, i) => i).filter((i) => ((bits + 1) >> i) & 1),
  );

/**
 * Times per unit of each feature, none negative, such that the sum of squared relative errors is least: the best of the
 * unconstrained solutions over all choices of features that have no negative part. There are only fifteen.
 */
const fitTimes = (points: readonly Point[]): readonly number[] => {
  const scale = [0, 1, 2, 3].map((i) => Math.max(1e-300, ...points.map((point) => features(point)[i] ?? 0)));
  const rows = points.map((point) =>
    features(point).map((value, i) => value / (scale[i] ?? 1) / (point.ms + NOISE_MS)),
  );
  const wanted = points.map(({ ms }) => ms / (ms + NOISE_MS));
  let best: { readonly error: number; readonly times: readonly number[] } | undefined;
  for (const chosen of subsets(4)) {
    const own = rows.map((row) => chosen.map((i) => row[i] ?? 0));
    const matrix = chosen.map((_, i) =>
      chosen.map((__, j) => own.reduce((sum, row) => sum + (row[i] ?? 0) * (row[j] ?? 0), 0)),
    );
    const solution = solve(
      matrix,
      chosen.map((_, i) => own.reduce((sum, row, at) => sum + (row[i] ?? 0) * (wanted[at] ?? 0), 0)),
    );
    if (!solution || solution.some((time) => time < 0)) continue;
    const error = own.reduce((sum, row, at) => sum + (dot(row, solution) - (wanted[at] ?? 0)) ** 2, 0);
    const times = [0, 1, 2, 3].map((i) => (solution[chosen.indexOf(i)] ?? 0) / (scale[i] ?? 1));
    if (!best || error < best.error) best = { error, times };
  }
  return best?.times ?? [0, 0, 0, 0];
};

/** Rates of one class. A rate that no time depends on is infinite. */
export const fitClass = (points: readonly Point[]): ClassRates => {
  const [once = 0, perFlop = 0, perRead = 0, perWritten = 0] = fitTimes(points);
  const rate = (time: number) => (time > 0 ? 1 / time : Number.POSITIVE_INFINITY);
  return {
    overheadMs: once,
    flopsPerMs: rate(perFlop),
    readBytesPerMs: rate(perRead),
    writeBytesPerMs: rate(perWritten),
  };
};

const groupBy = <K extends string>(
  points: readonly Point[],
  keyOf: (point: Point) => K,
): ReadonlyMap<K, readonly Point[]> => {
  const groups = new Map<K, Point[]>();
  for (const point of points) groups.set(keyOf(point), [...(groups.get(keyOf(point)) ?? []), point]);
  return groups;
};

type Fitted = Pick<Rates, 'classes' | 'operators'>;

/** Rates of single operators; a class of which none was measured keeps what it has in `otherwise`. */
const fitPoints = (points: readonly Point[], otherwise: Rates): Fitted => {
  const fitAll = <K extends string>(groups: ReadonlyMap<K, readonly Point[]>) =>
    Object.fromEntries([...groups].map(([key, own]) => [key, fitClass(own)]));
  return {
    classes: { ...otherwise.classes, ...fitAll(groupBy(points, ({ kind }) => kind)) },
    operators: fitAll(groupBy(points, ({ key }) => key)),
  };
};

/**
 * How much longer stretches take than the sum of their operators: less than once where ONNX Runtime fuses them, more where data
 * has left the cache by the time that it is read.
 */
const stretchFactor = (stretches: readonly Stretch[], rates: Rates): number => {
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  const measured = sum(stretches.map(({ ms }) => ms));
  const predicted = sum(stretches.flatMap(({ works }) => works.map((work) => workMs(work, rates))));
  return stretches.length === 0 || predicted === 0 ? 1 : measured / predicted;
};

/** A device's rates from what was measured on it; what was not keeps what it has in `otherwise`. */
export const fitRates = ({ points, stretches, callMs }: Measured, otherwise: Rates): Rates => {
  const single = { ...otherwise, ...fitPoints(points, otherwise), segmentMs: callMs };
  const factor = stretchFactor(stretches, single);
  return { ...scaleRates(single, 1 / factor), segmentMs: callMs };
};
