/** What a server's metrics say under load, over time. */
import { type Panel, type Timed, timeChart } from '../support/time-chart.js';

export interface Sample extends Timed {
  readonly running: number;
  readonly waiting: number;
  readonly refused: number;
  readonly completed: number;
  readonly stepMs: number;
  readonly serverMiB: number;
  readonly ranksMiB: number;
}

const PANELS: readonly Panel<Sample>[] = [
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

/** The chart's SVG text. */
export const loadChart = (samples: readonly Sample[]): string =>
  timeChart('Metrics of the server under load', PANELS, samples);
