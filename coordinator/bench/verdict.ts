/** A bench report in one sentence that can be forwarded: which run is faster, by how much, in how much memory, and why. */
import { basename, dirname } from 'node:path';
import { formatBytes } from '../config/bytes.js';
import { DENOISER_FILES } from '../export-advice.js';
import { type BenchReport, type BenchRunReport, largestWorker } from './bench.js';

const ms = (value: number): string => (value < 1000 ? `${value.toPrecision(3)} ms` : `${(value / 1000).toFixed(2)} s`);

const quantile = (values: readonly number[], at: number): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const place = at * (sorted.length - 1);
  const [low = 0, high = low] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low + (high - low) * (place - Math.floor(place));
};

/** Half of all steps took that long. */
export const spread = ({ step_ms }: BenchRunReport): readonly [number, number] => [
  quantile(step_ms.values, 0.25),
  quantile(step_ms.values, 0.75),
];

const stepText = (run: BenchRunReport): string => {
  const [low, high] = spread(run);
  return `${ms(run.step_ms.p50)} (half of all: ${ms(low)} to ${ms(high)})`;
};

/** Whether the middle halves of both overlap: then no one can say which is faster. */
const overlap = (a: BenchRunReport, b: BenchRunReport): boolean => {
  const [[aLow, aHigh], [bLow, bHigh]] = [spread(a), spread(b)];
  return aLow <= bHigh && bLow <= aHigh;
};

const speedText = (first: BenchRunReport, last: BenchRunReport): string => {
  const ratio = first.step_ms.p50 / last.step_ms.p50;
  if (overlap(first, last)) return `${last.name} is neither clearly faster nor slower than ${first.name}`;
  return ratio > 1
    ? `${last.name} is ${ratio.toFixed(2)} times as fast as ${first.name}`
    : `${last.name} takes ${(1 / ratio).toFixed(2)} times as long as ${first.name}`;
};

const reasonText = (first: BenchRunReport, last: BenchRunReport): string => {
  const [a, b] = [first.phases_ms, last.phases_ms];
  const added = b.exchange + b.control - a.exchange - a.control;
  const saved = a.compute - b.compute;
  const change = saved >= 0 ? `${ms(saved)} less` : `${ms(-saved)} more`;
  return `a worker computes ${change} a step, and exchange and control take ${ms(Math.abs(added))} ${added >= 0 ? 'more' : 'less'}`;
};

const memoryText = (first: BenchRunReport, last: BenchRunReport): string => {
  const [a, b] = [largestWorker(first), largestWorker(last)].map(formatBytes);
  return `its largest worker takes ${b} of memory against ${a}`;
};

/** The last run against the first; a single run against plain ONNX Runtime. */
export const verdict = ({ runs, plain }: Pick<BenchReport, 'runs' | 'plain'>): string => {
  const last = runs.at(-1);
  const first = runs.length > 1 ? runs[0] : (plain ?? undefined);
  if (!last) return 'Nothing was measured.';
  if (!first) return `A step of ${last.name} takes ${stepText(last)}.`;
  return `${speedText(first, last)}: a step takes ${stepText(last)} against ${stepText(first)}, as ${reasonText(first, last)}; ${memoryText(first, last)}.`;
};

const PARTS: readonly string[] = DENOISER_FILES.map(dirname);

/** `emoji-sd` of `models/emoji-sd/unet/model.onnx`, and `sd15` of `sd15/model.onnx`. */
const modelName = (path: string): string => {
  const folder = dirname(path);
  if (basename(path) !== 'model.onnx') return basename(path);
  return basename(PARTS.includes(basename(folder)) ? dirname(folder) : folder);
};

export const conditionsText = ({ model, dims, runs, conditions }: BenchReport): string => {
  const { date, machine, versions } = conditions;
  const sizes = Object.entries(dims).map(([name, size]) => `${name} ${size}`);
  return [
    `${modelName(model)} (${sizes.join(', ')}), ${runs[0]?.step_ms.samples ?? 0} steps each in turns`,
    `${date.slice(0, 10)}, ${machine.processor}, ${machine.cores} cores, ${formatBytes(machine.memory_bytes)}, ${machine.platform}`,
    `Tandem ${versions.tandem}, ONNX Runtime ${versions.onnxruntime}, Node ${versions.node}.`,
  ].join('; ');
};
