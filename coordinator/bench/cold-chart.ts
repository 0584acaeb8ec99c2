/** A cold start report as a picture: a bar for each start, from left to right what it waited for. */
import { type Bar, COLOURS, drawChart, type Part } from './bar-chart.js';
import type { ColdReport, ColdRunReport, ColdStart } from './cold-report.js';

const PARTS: readonly Part[] = [
  { key: 'process', title: 'processes start', colour: COLOURS.grey },
  { key: 'load', title: 'files read, sessions opened', colour: COLOURS.blue },
  { key: 'warmUp', title: 'first step', colour: COLOURS.orange },
  { key: 'picture', title: 'first picture', colour: COLOURS.green },
];

/** A picture is started after the load; the first step beside it is not part of it. */
const partsOf = ({ load_ms, phases_ms, first_image_ms }: ColdStart): Bar['parts'] => ({
  process: phases_ms.process,
  load: load_ms - phases_ms.process,
  warmUp: first_image_ms === null ? phases_ms.warm_up : 0,
  picture: first_image_ms === null ? 0 : first_image_ms - load_ms,
});

const barsOf = (run: ColdRunReport): readonly Bar[] =>
  run.starts.map((start) => ({ label: `${run.name}, ${start.page_cache} files`, parts: partsOf(start) }));

/** The chart of a report, as the text of an `.svg` file. */
export const drawColdReport = (report: ColdReport): string => {
  const bars = [...report.runs, ...(report.plain ? [report.plain] : [])].flatMap(barsOf);
  const hasPicture = bars.some(({ parts }) => (parts.picture ?? 0) > 0);
  return drawChart({ title: `From no process to the first ${hasPicture ? 'picture' : 'step'}`, parts: PARTS, bars });
};
