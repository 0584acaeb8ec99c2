/** A bench report as a picture: a bar for each run, what a step of it is spent on. */
import { type Bar, COLOURS, drawChart, type Part } from './bar-chart.js';
import type { BenchReport, BenchRunReport } from './bench.js';
import { conditionsText, verdict } from './verdict.js';

const PARTS: readonly Part[] = [
  { key: 'compute', title: 'compute', colour: COLOURS.blue },
  { key: 'exchange', title: 'exchange and waiting for it', colour: COLOURS.orange },
  { key: 'control', title: 'way to the workers and back', colour: COLOURS.grey },
];

const barOf = ({ name, phases_ms }: BenchRunReport): Bar => ({ label: name, parts: phases_ms });

/** Sentences break where a line of the chart ends. */
const LINE = 130;

const lines = (sentence: string): readonly string[] =>
  sentence.match(new RegExp(`.{1,${LINE}}(?= |$)`, 'g'))?.map((line) => line.trim()) ?? [];

/** The chart of a report, as the text of an `.svg` file. */
export const drawBenchReport = (report: BenchReport): string => {
  const bars = [...report.runs, ...(report.plain ? [report.plain] : [])].map(barOf);
  const notes = [verdict(report), conditionsText(report)].flatMap(lines);
  return drawChart({ title: 'Where a step goes, on average', parts: PARTS, bars, notes });
};
