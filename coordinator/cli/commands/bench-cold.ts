/** `tandem bench --cold`: how long it takes from nothing to the first result. */
import { writeFile } from 'node:fs/promises';
import { Option } from 'commander';
import { benchCold } from '../../bench/cold.js';
import { drawColdReport } from '../../bench/cold-chart.js';
import type { ColdRun } from '../../bench/cold-contestant.js';
import type { ColdReport, ColdRunReport, ColdStart, PageCache } from '../../bench/cold-report.js';
import { formatBytes } from '../../config/bytes.js';
import type { CommandContext } from '../context.js';
import { formatMs, formatRatio, formatShare, formatTable } from '../text-table.js';

const STATES = { cold: ['cold'], warm: ['warm'], both: ['cold', 'warm'] } as const satisfies Record<
  string,
  readonly PageCache[]
>;

export type PageCacheOption = keyof typeof STATES;

export const coldOption = (): Option =>
  new Option('--cold', 'measure starts instead of steps: to all workers ready, the first step and the first picture');

export const pageCacheOption = (): Option =>
  new Option('--page-cache <state>', 'with --cold: whether files are in memory before a start')
    .choices(Object.keys(STATES))
    .default('both');

export const chartOption = (): Option =>
  new Option('--chart <file>', 'write the result as an SVG picture too: steps by phase, with --cold starts');

const columns = [
  { title: 'start' },
  { title: 'files' },
  ...[
    'ready',
    'processes',
    'read',
    'sessions',
    'first step',
    'to step',
    'to picture',
    'from disk',
    'of disk rate',
    'private',
  ].map((title) => ({ title, align: 'right' as const })),
];

const orDash = (value: number | null, format: (value: number) => string): string =>
  value === null ? '-' : format(value);

const startRow = (report: ColdReport, run: ColdRunReport, start: ColdStart): readonly string[] => [
  run.name,
  start.page_cache,
  formatMs(start.load_ms),
  formatMs(start.phases_ms.process),
  orDash(start.phases_ms.read, formatMs),
  formatMs(start.phases_ms.session),
  formatMs(start.phases_ms.warm_up),
  formatMs(start.first_step_ms),
  orDash(start.first_image_ms, formatMs),
  orDash(start.disk_read_bytes, formatBytes),
  orDash(start.read_bytes_per_s, (rate) => formatShare(rate / (report.disk_read_bytes_per_s ?? rate))),
  formatBytes(start.private_bytes),
];

const diskLine = ({ disk_read_bytes_per_s: rate }: ColdReport): string =>
  rate === null ? '' : `The disk alone delivers ${formatBytes(rate)}/s to one reader.\n`;

const speedupLine = ({ speedup, runs }: ColdReport): string => {
  const parts = Object.entries(speedup.load ?? {}).map(([cache, ratio]) => `${formatRatio(ratio)} with ${cache} files`);
  return parts.length === 0 ? '' : `${runs.at(-1)?.name} is ready sooner than plain: ${parts.join(', ')}.\n`;
};

const coldText = (report: ColdReport): string => {
  const all = [...report.runs, ...(report.plain ? [report.plain] : [])];
  const rows = all.flatMap((run) => run.starts.map((start) => startRow(report, run, start)));
  const notes = '"read" and "sessions" go on at the same time; plain ONNX Runtime reads while it opens its session.';
  return `${formatTable(columns, rows)}\n\n${diskLine(report)}${speedupLine(report)}${notes}`;
};

export interface ColdOptions {
  readonly cold?: boolean;
  readonly pageCache: PageCacheOption;
  readonly chart?: string;
  readonly seed: number;
  readonly plain: boolean;
}

/** The command's work, given its runs. */
export const runBenchCold = async (
  runs: readonly ColdRun[],
  { pageCache, chart, seed, plain }: ColdOptions,
  context: CommandContext,
): Promise<void> => {
  const report = await benchCold({ ...context, runs, pageCaches: STATES[pageCache], seed, plain });
  if (chart !== undefined) await writeFile(chart, drawColdReport(report));
  context.print(report, () => coldText(report));
};
