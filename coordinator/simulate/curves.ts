/** Simulated speedups as curves, one for each link, as the text of an SVG file written out by hand. */
import type { SimulationReport } from './index.js';

const [WIDTH, HEIGHT] = [640, 420];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 130, 48, 48];
/** Okabe and Ito, 2008: they stay apart in print and for the colour-blind. */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#999999'];

type Point = readonly [x: number, y: number];

const escapeText = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

const text = ([x, y]: Point, content: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escapeText(content)}</text>`;

const line = ([x1, y1]: Point, [x2, y2]: Point, more: string): string =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" ${more}/>`;

/** Both axes go by doublings, so that twice the devices and twice the speed are as far apart. */
const scale = (most: number) => {
  const top = Math.log2(Math.max(2, most));
  const at = (value: number): number => Math.max(-1, Math.log2(value)) / top;
  return {
    top,
    place: (devices: number, speedup: number): Point => [
      LEFT + at(devices) * (WIDTH - LEFT - RIGHT),
      HEIGHT - BOTTOM - ((Math.max(-1, Math.log2(speedup)) + 1) / (top + 1)) * (HEIGHT - TOP - BOTTOM),
    ],
  };
};

const curve = (points: readonly Point[], colour: string): string =>
  `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>`;

/** @param title above the curves */
export const drawCurves = ({ points }: SimulationReport, title: string): string => {
  const counts = [...new Set(points.map(({ devices }) => devices))];
  const links = [...new Set(points.map(({ link }) => link))];
  const most = Math.max(...counts);
  const { top, place } = scale(most);
  const ticks = Array.from({ length: Math.floor(top) + 2 }, (_, index) => 2 ** (index - 1));
  const grid = ticks.flatMap((tick) => {
    const [left, y] = place(1, tick);
    return [
      line([left, y], [WIDTH - RIGHT, y], 'stroke="#ddd"'),
      text([LEFT - 8, y + 4], `${tick}x`, 'text-anchor="end"'),
    ];
  });
  const bottom = counts.map((count) =>
    text([place(count, 1)[0], HEIGHT - BOTTOM + 18], `${count}`, 'text-anchor="middle"'),
  );
  const curves = links.flatMap((link, index) => {
    const own = points.filter((point) => point.link === link);
    const colour = COLOURS[index % COLOURS.length] ?? '#000';
    const along = own.map(({ devices, speedup }) => place(devices, speedup));
    const name = text([WIDTH - RIGHT + 12, TOP + 16 + 20 * index], link, `fill="${colour}"`);
    return [curve(along, colour), name];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="13">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text([LEFT, 26], title, 'font-size="15"'),
    ...grid,
    ...bottom,
    text([(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10], 'devices', 'text-anchor="middle"'),
    line(place(1, 1), place(most, most), 'stroke="#bbb" stroke-dasharray="4 4"'),
    ...curves,
    '</svg>',
    '',
  ].join('\n');
};
