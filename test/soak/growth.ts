/** What a process held late against what it held early, and the chart of it. */
import { type Line, type Panel, timeChart } from '../support/time-chart.js';
import type { ProcessSample, Sample } from './process-samples.js';

/** Those that live from here to the end are asked for growth: what loads for the first time does so before. */
export const WARM_S = 300;
const WINDOW_S = 300;

export interface Growth {
  readonly name: string;
  readonly pid: number;
  /** Medians of the first and last five minutes after the first five. */
  readonly earlyMB: number;
  readonly lateMB: number;
  readonly growthMB: number;
  /** Least squares through all after the first five minutes. */
  readonly slopeMBPerHour: number;
  readonly earlyDescriptors: number;
  readonly lateDescriptors: number;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

type Point = readonly [seconds: number, sample: ProcessSample];

const slope = (points: readonly Point[]): number => {
  const [x, y] = [mean(points.map(([seconds]) => seconds)), mean(points.map(([, { privateMB }]) => privateMB))];
  const above = points.map(([seconds, { privateMB }]) => (seconds - x) * (privateMB - y));
  return (mean(above) / mean(points.map(([seconds]) => (seconds - x) ** 2))) * 3600;
};

const of = ({ processes }: Sample, pid: number): ProcessSample | undefined =>
  processes.find((process) => process.pid === pid);

/** @param pids by name; each must live from beginning to end */
export const growthOf = (samples: readonly Sample[], pids: ReadonlyMap<string, number>): readonly Growth[] => {
  const end = samples.at(-1)?.seconds ?? 0;
  const warm = Math.min(WARM_S, end / 4);
  const window = Math.min(WINDOW_S, end / 4);
  return [...pids].map(([name, pid]) => {
    const points = samples.flatMap((sample): readonly Point[] => {
      const found = of(sample, pid);
      return found && sample.seconds >= warm ? [[sample.seconds, found]] : [];
    });
    const early = points.filter(([seconds]) => seconds < warm + window).map(([, sample]) => sample);
    const late = points.filter(([seconds]) => seconds > end - window).map(([, sample]) => sample);
    const earlyMB = median(early.map(({ privateMB }) => privateMB));
    const lateMB = median(late.map(({ privateMB }) => privateMB));
    return {
      name,
      pid,
      earlyMB,
      lateMB,
      growthMB: lateMB - earlyMB,
      slopeMBPerHour: slope(points),
      earlyDescriptors: median(early.map(({ descriptors }) => descriptors)),
      lateDescriptors: median(late.map(({ descriptors }) => descriptors)),
    };
  });
};

const COLORS = ['#4f4bc4', '#c2552d', '#1f7a4d'];

export const soakChart = (samples: readonly Sample[], pids: ReadonlyMap<string, number>): string => {
  const lines = (read: (process: ProcessSample) => number): readonly Line<Sample>[] =>
    [...pids].map(([name, pid], index) => ({
      name,
      color: COLORS[index] ?? '#000000',
      read: (sample) => read(of(sample, pid) ?? { pid, privateMB: 0, descriptors: 0 }),
    }));
  const panels: readonly Panel<Sample>[] = [
    { title: 'private memory, MB', lines: lines(({ privateMB }) => privateMB) },
    { title: 'open descriptors', lines: lines(({ descriptors }) => descriptors) },
    {
      title: 'processes',
      lines: [{ name: 'all, of sizes that come and go too', color: '#8f8d84', read: (one) => one.processes.length }],
    },
  ];
  return timeChart('A server and its ranks under mixed load', panels, samples);
};
