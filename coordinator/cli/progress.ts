/** What progress on standard error is: its interface, and how an amount, a rate and the time left are said. */
import { formatBytes } from '../config/bytes.js';

export interface Progress {
  /** A stage's name and how far it is, in its own unit. */
  update(stage: string, done: number, total: number): void;
  /** A sentence, above the bar. */
  line(text: string): void;
  /** Clears the bar. */
  stop(): void;
}

/** Above this a count is taken for bytes. */
const BYTES_FROM = 1 << 20;

const isBytes = (total: number): boolean => total >= BYTES_FROM;

export const amount = (done: number, total: number): string =>
  isBytes(total) ? `${formatBytes(done)} of ${formatBytes(total)}` : `${done}/${total}`;

export const percent = (done: number, total: number): number => (total > 0 ? Math.floor((100 * done) / total) : 0);

/** `8 s`, `4 min 12 s`, `1 h 5 min` */
export const formatDuration = (ms: number): string => {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

const rateText = (msEach: number, total: number): string => {
  if (isBytes(total)) return `${formatBytes(Math.round(1000 / msEach))}/s`;
  return msEach < 1000 ? `${(1000 / msEach).toFixed(1)} a second` : `${(msEach / 1000).toFixed(2)} s each`;
};

/** Weight of the newest update: a rate that changes is followed, one that jitters is not. */
const NEWEST = 0.3;

/** How fast one stage goes. */
export class Pace {
  #done: number;
  #at: number;
  #msEach: number | undefined;

  /** @param now ms, of any clock */
  constructor(done: number, now: number) {
    this.#done = done;
    this.#at = now;
  }

  update(done: number, now: number): void {
    if (done <= this.#done) return;
    const msEach = (now - this.#at) / (done - this.#done);
    this.#msEach = this.#msEach === undefined ? msEach : NEWEST * msEach + (1 - NEWEST) * this.#msEach;
    this.#done = done;
    this.#at = now;
  }

  /** `2.01 s each, 32 s left`; empty until there is a rate. */
  text(total: number): string {
    if (this.#msEach === undefined || this.#msEach === 0) return '';
    const left = (total - this.#done) * this.#msEach;
    return `${rateText(this.#msEach, total)}, ${formatDuration(left)} left`;
  }
}
