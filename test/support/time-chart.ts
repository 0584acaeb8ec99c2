/** Values over time as small charts one below the other, in one SVG. */

export interface Line<Sample> {
  readonly name: string;
  readonly color: string;
  readonly read: (sample: Sample) => number;
}

export interface Panel<Sample> {
  readonly title: string;
  readonly lines: readonly Line<Sample>[];
}

export interface Timed {
  /** Since the first one. */
  readonly seconds: number;
}

const WIDTH = 760;
const HEIGHT = 130;
const LEFT = 60;
const TOP = 34;
const LEGEND = { from: 190, column: 170 };
const PLOT = { width: WIDTH - LEFT - 20, height: HEIGHT - TOP - 22 };

/** A round number at or above a value. */
const roundUp = (value: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
};

const text = (x: number, y: number, content: string, extra = ''): string =>
  `<text x="${x}" y="${y}" ${extra}>${content}</text>`;

const drawPanel = <S extends Timed>(samples: readonly S[], { title, lines }: Panel<S>, index: number): string => {
  const end = Math.max(1, samples.at(-1)?.seconds ?? 1);
  const top = roundUp(Math.max(1, ...samples.flatMap((sample) => lines.map(({ read }) => read(sample)))));
  const y = index * HEIGHT;
  const point = (sample: S, value: number): string =>
    `${(LEFT + (sample.seconds / end) * PLOT.width).toFixed(1)},${(y + TOP + PLOT.height * (1 - value / top)).toFixed(1)}`;
  const paths = lines.map(
    ({ color, read }) =>
      `<polyline fill="none" stroke="${color}" stroke-width="1.8" points="${samples.map((sample) => point(sample, read(sample))).join(' ')}"/>`,
  );
  const legend = lines.map(({ name, color }, place) =>
    text(LEFT + LEGEND.from + place * LEGEND.column, y + 22, name, `fill="${color}" font-weight="600"`),
  );
  return [
    text(LEFT, y + 22, title, 'font-weight="600"'),
    ...legend,
    `<path d="M${LEFT} ${y + TOP}V${y + TOP + PLOT.height}H${LEFT + PLOT.width}" fill="none" stroke="#8f8d84"/>`,
    text(LEFT - 8, y + TOP + 5, String(top), 'text-anchor="end"'),
    text(LEFT - 8, y + TOP + PLOT.height + 4, '0', 'text-anchor="end"'),
    text(LEFT + PLOT.width, y + TOP + PLOT.height + 16, `${Math.round(end)} s`, 'text-anchor="end"'),
    ...paths,
  ].join('\n');
};

/** The chart's SVG text. */
export const timeChart = <S extends Timed>(
  title: string,
  panels: readonly Panel<S>[],
  samples: readonly S[],
): string => {
  const height = panels.length * HEIGHT + 10;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="12" fill="#1d1d1b">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    ...panels.map((panel, index) => drawPanel(samples, panel, index)),
    '</svg>',
    '',
  ].join('\n');
};
