/** Metrics over time as small charts one below the other, in one SVG. */

export interface Sample {
  /** Since the first one. */
  readonly seconds: number;
  readonly running: number;
  readonly waiting: number;
  readonly refused: number;
  readonly completed: number;
  readonly stepMs: number;
  readonly serverMiB: number;
  readonly ranksMiB: number;
}

interface Line {
  readonly name: string;
  readonly color: string;
  readonly read: (sample: Sample) => number;
}

const PANELS: readonly { readonly title: string; readonly lines: readonly Line[] }[] = [
  {
    title: 'requests',
    lines: [
      { name: 'waiting', color: '#4f4bc4', read: ({ waiting }) => waiting },
      { name: 'running', color: '#c2552d', read: ({ running }) => running },
    ],
  },
  {
    title: 'requests since the start',
    lines: [
      { name: 'completed', color: '#1f7a4d', read: ({ completed }) => completed },
      { name: 'refused (429)', color: '#b3261e', read: ({ refused }) => refused },
    ],
  },
  { title: 'step, ms', lines: [{ name: 'mean of the last second', color: '#4f4bc4', read: ({ stepMs }) => stepMs }] },
  {
    title: 'memory, MiB',
    lines: [
      { name: 'server (resident)', color: '#4f4bc4', read: ({ serverMiB }) => serverMiB },
      { name: 'both ranks (private)', color: '#c2552d', read: ({ ranksMiB }) => ranksMiB },
    ],
  },
];

const WIDTH = 760;
const HEIGHT = 130;
const LEFT = 60;
const TOP = 34;
const PLOT = { width: WIDTH - LEFT - 20, height: HEIGHT - TOP - 22 };

/** A round number at or above a value. */
const roundUp = (value: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
};

const text = (x: number, y: number, content: string, extra = ''): string =>
  `<text x="${x}" y="${y}" ${extra}>${content}</text>`;

const panel = (samples: readonly Sample[], index: number): string => {
  const { title, lines } = PANELS[index] ?? { title: '', lines: [] };
  const end = Math.max(1, samples.at(-1)?.seconds ?? 1);
  const top = roundUp(Math.max(1, ...samples.flatMap((sample) => lines.map(({ read }) => read(sample)))));
  const y = index * HEIGHT;
  const point = (sample: Sample, value: number): string =>
    `${(LEFT + (sample.seconds / end) * PLOT.width).toFixed(1)},${(y + TOP + PLOT.height * (1 - value / top)).toFixed(1)}`;
  const paths = lines.map(
    ({ color, read }) =>
      `<polyline fill="none" stroke="${color}" stroke-width="1.8" points="${samples.map((sample) => point(sample, read(sample))).join(' ')}"/>`,
  );
  const legend = lines.map(({ name, color }, place) =>
    text(LEFT + 190 + place * 170, y + 22, name, `fill="${color}" font-weight="600"`),
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
export const loadChart = (samples: readonly Sample[]): string => {
  const height = PANELS.length * HEIGHT + 10;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="12" fill="#1d1d1b">`,
    '<title>Metrics of the server under load</title>',
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    ...PANELS.map((_, index) => panel(samples, index)),
    '</svg>',
    '',
  ].join('\n');
};
