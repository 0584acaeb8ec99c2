/**
 * Progress where there is no terminal, a pipe or a container's log: plain lines, and those only for a stage that takes longer
 * than two seconds and never more often than that, so that logs stay short.
 */
import { amount, Pace, type Progress, percent } from './progress.js';

const EVERY_MS = 2_000;

interface Stage {
  readonly name: string;
  readonly pace: Pace;
  /** When a line was last due. */
  printedAt: number;
  printed: boolean;
}

const lineOf = ({ name, pace }: Stage, done: number, total: number): string => {
  const speed = done < total ? pace.text(total) : '';
  return `${name}: ${amount(done, total)} (${percent(done, total)} %)${speed === '' ? '' : `, ${speed}`}\n`;
};

/** @param clock ms */
export const createLineProgress = (
  stream: NodeJS.WritableStream,
  clock: () => number = () => performance.now(),
): Progress => {
  let stage: Stage | undefined;
  return {
    update(name, done, total) {
      const now = clock();
      if (stage?.name !== name) stage = { name, pace: new Pace(done, now), printedAt: now, printed: false };
      stage.pace.update(done, now);
      const ended = done >= total;
      if (now - stage.printedAt >= EVERY_MS || (ended && stage.printed)) {
        stream.write(lineOf(stage, done, total));
        stage.printedAt = now;
        stage.printed = true;
      }
      // A stage may run again: its next update begins anew.
      if (ended) stage = undefined;
    },
    line: (text) => void stream.write(`${text}\n`),
    stop: () => undefined,
  };
};
