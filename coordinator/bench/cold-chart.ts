/** A cold start report as a picture: a bar for each start, from left to right what it waited for. SVG, written out by hand. */
import type { ColdReport, ColdRunReport, ColdStart } from './cold-report.js';

const WIDTH = 860;
const LEFT = 230;
const RIGHT = 90;
const TOP = 64;
const ROW = 30;
const BAR = 18;
const TICKS = 5;

/** Colours that stay apart in print and for the colour-blind (Okabe and Ito, 2008). */
const PARTS = [
  { key: 'process', title: 'processes start', colour: '#999999' },
  { key: 'load', title: 'files read, sessions opened', colour: '#0072b2' },
  { key: 'warmUp', title: 'first step', colour: '#e69f00' },
  { key: 'picture', title: 'first picture', colour: '#009e73' },
] as const;

type Parts = Readonly<Record<(typeof PARTS)[number]['key'], number>>;

interface Bar {
  readonly label: string;
  readonly parts: Parts;
}

/** A picture is started after the load; the first step beside it is not part of it. */
const partsOf = ({ load_ms, phases_ms, first_image_ms }: ColdStart): Parts => ({
  process: phases_ms.process,
  load: load_ms - phases_ms.process,
  warmUp: first_image_ms === null ? phases_ms.warm_up : 0,
  picture: first_image_ms === null ? 0 : first_image_ms - load_ms,
});

const barsOf = (run: ColdRunReport): readonly Bar[] =>
  run.starts.map((start) => ({ label: `${run.name}, ${start.page_cache} files`, parts: partsOf(start) }));

const total = (parts: Parts): number => PARTS.reduce((sum, { key }) => sum + parts[key], 0);

const escapeText = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

const text = (x: number, y: number, content: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escapeText(content)}</text>`;

const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;

/** The next of 1, 2 and 5 times a power of ten. */
const niceStep = (ms: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, ms)));
  return ([1, 2, 5, 10].find((factor) => factor * power >= ms) ?? 10) * power;
};

const drawBar = ({ label, parts }: Bar, index: number, scale: (ms: number) => number): string => {
  const y = TOP + index * ROW;
  const edges = PARTS.map(({ key }, at) => ({
    key,
    from: PARTS.slice(0, at).reduce((sum, part) => sum + parts[part.key], 0),
  }));
  const rectangles = edges.map(({ key, from }, at) => {
    const width = scale(from + parts[key]) - scale(from);
    return `<rect x="${scale(from).toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${PARTS[at]?.colour}"/>`;
  });
  return [
    text(LEFT - 10, y + BAR - 4, label, ' text-anchor="end"'),
    ...rectangles,
    text(scale(total(parts)) + 6, y + BAR - 4, seconds(total(parts))),
  ].join('\n');
};

const drawAxis = (bottom: number, end: number, step: number, scale: (ms: number) => number): string => {
  const marks = Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => index * step);
  return marks
    .map((ms) => {
      const x = scale(ms);
      const line = `<line x1="${x.toFixed(1)}" y1="${TOP - 8}" x2="${x.toFixed(1)}" y2="${bottom}" stroke="#dddddd"/>`;
      return `${line}\n${text(x, bottom + 16, `${ms / 1000} s`, ' text-anchor="middle"')}`;
    })
    .join('\n');
};

const drawLegend = (parts: readonly (typeof PARTS)[number][]): string =>
  parts
    .map(({ title, colour }, index) => {
      const x = LEFT + index * 190;
      return `<rect x="${x}" y="32" width="12" height="12" fill="${colour}"/>\n${text(x + 18, 42, title)}`;
    })
    .join('\n');

/** The chart of a report, as the text of an `.svg` file. */
export const drawColdReport = (report: ColdReport): string => {
  const bars = [...report.runs, ...(report.plain ? [report.plain] : [])].flatMap(barsOf);
  const longest = Math.max(1, ...bars.map(({ parts }) => total(parts)));
  const step = niceStep(longest / TICKS);
  const end = Math.ceil(longest / step) * step;
  const scale = (ms: number): number => LEFT + (ms / end) * (WIDTH - LEFT - RIGHT);
  const bottom = TOP + bars.length * ROW;
  const shown = PARTS.filter(({ key }) => bars.some(({ parts }) => parts[key] > 0));
  const hasPicture = bars.some(({ parts }) => parts.picture > 0);
  const title = `From no process to the first ${hasPicture ? 'picture' : 'step'}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${bottom + 30}" viewBox="0 0 ${WIDTH} ${bottom + 30}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    text(10, 20, title, ' font-size="15" font-weight="bold"'),
    drawLegend(shown),
    drawAxis(bottom, end, step, scale),
    ...bars.map((bar, index) => drawBar(bar, index, scale)),
    '</svg>',
    '',
  ].join('\n');
};
