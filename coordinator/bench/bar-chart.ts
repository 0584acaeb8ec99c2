/** Bars of several parts, one under the other, as the text of an SVG file written out by hand. */

const WIDTH = 860;
const LEFT = 230;
const RIGHT = 90;
const TOP = 64;
const ROW = 30;
const BAR = 18;
const TICKS = 5;
const LEGEND_COLUMN = 190;

/** A part that bars have, in the order in which it is drawn. */
export interface Part {
  readonly key: string;
  readonly title: string;
  readonly colour: string;
}

/** Colours that stay apart in print and for the colour-blind (Okabe and Ito, 2008). */
export const COLOURS = { grey: '#999999', blue: '#0072b2', orange: '#e69f00', green: '#009e73' } as const;

export interface Bar {
  readonly label: string;
  /** ms by a part's key; 0 where absent */
  readonly parts: Readonly<Record<string, number>>;
}

export interface Chart {
  readonly title: string;
  readonly parts: readonly Part[];
  readonly bars: readonly Bar[];
  /** Sentences under the bars. */
  readonly notes?: readonly string[];
}

type Scale = (ms: number) => number;

const escapeText = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

const text = (x: number, y: number, content: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escapeText(content)}</text>`;

/** @param end ms, of the axis: all bars of a chart are told in one unit */
const duration = (ms: number, end: number): string =>
  end < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;

/** The next of 1, 2 and 5 times a power of ten. */
const niceStep = (ms: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(0.1, ms)));
  return ([1, 2, 5, 10].find((factor) => factor * power >= ms) ?? 10) * power;
};

const drawBar = ({ label, parts }: Bar, all: readonly Part[], y: number, end: number, scale: Scale): string => {
  let from = 0;
  const rectangles = all.map(({ key, colour }) => {
    const start = from;
    from += parts[key] ?? 0;
    const width = scale(from) - scale(start);
    return `<rect x="${scale(start).toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${colour}"/>`;
  });
  return [
    text(LEFT - 10, y + BAR - 4, label, ' text-anchor="end"'),
    ...rectangles,
    text(scale(from) + 6, y + BAR - 4, duration(from, end)),
  ].join('\n');
};

const drawAxis = (bottom: number, end: number, step: number, scale: Scale): string => {
  const [unit, name] = end < 1000 ? [1, 'ms'] : [1000, 's'];
  return Array.from({ length: Math.round(end / step) + 1 }, (_, index) => {
    const ms = index * step;
    const x = scale(ms);
    const line = `<line x1="${x.toFixed(1)}" y1="${TOP - 8}" x2="${x.toFixed(1)}" y2="${bottom}" stroke="#dddddd"/>`;
    return `${line}\n${text(x, bottom + 16, `${Number((ms / unit).toPrecision(6))} ${name}`, ' text-anchor="middle"')}`;
  }).join('\n');
};

const drawLegend = (parts: readonly Part[]): string =>
  parts
    .map(({ title, colour }, index) => {
      const x = LEFT + index * LEGEND_COLUMN;
      return `<rect x="${x}" y="32" width="12" height="12" fill="${colour}"/>\n${text(x + 18, 42, title)}`;
    })
    .join('\n');

/** The text of an `.svg` file. */
export const drawChart = ({ title, parts, bars, notes = [] }: Chart): string => {
  const total = (bar: Bar): number => parts.reduce((sum, { key }) => sum + (bar.parts[key] ?? 0), 0);
  const longest = Math.max(1, ...bars.map(total));
  const step = niceStep(longest / TICKS);
  const end = Math.ceil(longest / step) * step;
  const scale: Scale = (ms) => LEFT + (ms / end) * (WIDTH - LEFT - RIGHT);
  const bottom = TOP + bars.length * ROW;
  const height = bottom + 30 + notes.length * 18;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escapeText(title)}</title>`,
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    text(10, 20, title, ' font-size="15" font-weight="bold"'),
    drawLegend(parts.filter(({ key }) => bars.some((bar) => (bar.parts[key] ?? 0) > 0))),
    drawAxis(bottom, end, step, scale),
    ...bars.map((bar, index) => drawBar(bar, parts, TOP + index * ROW, end, scale)),
    ...notes.map((note, index) => text(10, bottom + 40 + index * 18, note)),
    '</svg>',
    '',
  ].join('\n');
};
