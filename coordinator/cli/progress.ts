/**
 * Progress on standard error: a bar on a terminal; elsewhere plain lines, and those only for a stage that takes longer
 * than two seconds, so that logs stay short.
 */
import { formatBytes } from '../config/bytes.js';

export interface Progress {
  /** A stage's name and how far it is, in its own unit. */
  update(stage: string, done: number, total: number): void;
  /** A sentence, above the bar. */
  line(text: string): void;
  /** Clears the bar. */
  stop(): void;
}

const QUIET_MS = 2_000;
const EVERY_MS = 2_000;
/** Above this a count is taken for bytes. */
const BYTES_FROM = 1 << 20;

const amount = (done: number, total: number): string =>
  total >= BYTES_FROM ? `${formatBytes(done)} of ${formatBytes(total)}` : `${done}/${total}`;

const percent = (done: number, total: number): number => (total > 0 ? Math.floor((100 * done) / total) : 0);

const createLineProgress = (stream: NodeJS.WritableStream): Progress => {
  let stage = '';
  let startedAt = 0;
  let printedAt = 0;
  let printed = false;
  const print = (done: number, total: number): void => {
    stream.write(`${stage}: ${amount(done, total)} (${percent(done, total)} %)\n`);
    printedAt = performance.now();
    printed = true;
  };
  const begin = (name: string): void => {
    stage = name;
    startedAt = performance.now();
    printed = false;
  };
  return {
    update(name, done, total) {
      if (name !== stage) begin(name);
      const now = performance.now();
      const due = now - startedAt >= QUIET_MS && now - printedAt >= EVERY_MS;
      const last = printed && done >= total;
      if (due || last) print(done, total);
      // A stage may run again: its next update begins anew.
      if (done >= total) stage = '';
    },
    line: (text) => void stream.write(`${text}\n`),
    stop: () => undefined,
  };
};

/** @param stream a terminal gets a bar, anything else lines */
export const createProgress = async (stream: NodeJS.WriteStream): Promise<Progress> => {
  if (!stream.isTTY) return createLineProgress(stream);
  const { createBarProgress } = await import('./progress-bar.js');
  return createBarProgress(stream, amount);
};
