/** Progress on a terminal: one bar a stage, with its rate and the time left; loaded only where there is a terminal. */
import { Presets, SingleBar } from 'cli-progress';
import { amount, Pace, type Progress } from './progress.js';

const FORMAT = '{stage} [{bar}] {percentage}% | {amount} | {duration_formatted} {speed}';

interface Stage {
  readonly name: string;
  readonly bar: SingleBar;
  readonly pace: Pace;
}

const begin = (stream: NodeJS.WriteStream, name: string, done: number, total: number): Stage => {
  const options = { stream, format: FORMAT, hideCursor: true, clearOnComplete: true, barsize: 24 };
  const bar = new SingleBar(options, Presets.shades_classic);
  bar.start(total, done, { stage: name, amount: amount(done, total), speed: '' });
  return { name, bar, pace: new Pace(done, performance.now()) };
};

export const createBarProgress = (stream: NodeJS.WriteStream): Progress => {
  let stage: Stage | undefined;
  const stop = (): void => {
    stage?.bar.stop();
    stage = undefined;
  };
  return {
    update(name, done, total) {
      if (stage?.name !== name) {
        stop();
        stage = begin(stream, name, done, total);
      }
      const { bar, pace } = stage;
      pace.update(done, performance.now());
      const speed = pace.text(total);
      bar.setTotal(total);
      bar.update(done, { stage: name, amount: amount(done, total), speed: speed === '' ? '' : `| ${speed}` });
      if (done >= total) stop();
    },
    line(text: string): void {
      stop();
      stream.write(`${text}\n`);
    },
    stop,
  };
};
