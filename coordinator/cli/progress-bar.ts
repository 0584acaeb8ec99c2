/** Progress on a terminal; loaded only where there is one. */
import { Presets, SingleBar } from 'cli-progress';

/** @param amount `3/7`, or what people read of bytes */
export const createBarProgress = (stream: NodeJS.WriteStream, amount: (done: number, total: number) => string) => {
  let bar: SingleBar | undefined;
  let current = '';
  const stop = (): void => {
    bar?.stop();
    bar = undefined;
    current = '';
  };
  const start = (stage: string, total: number): void => {
    stop();
    current = stage;
    bar = new SingleBar(
      {
        stream,
        format: '{stage} [{bar}] {percentage}% | {amount} | {duration_formatted}',
        hideCursor: true,
        clearOnComplete: true,
      },
      Presets.shades_classic,
    );
    bar.start(total, 0, { stage, amount: '' });
  };
  return {
    update(stage: string, done: number, total: number): void {
      if (stage !== current || !bar) start(stage, total);
      bar?.setTotal(total);
      bar?.update(done, { stage, amount: amount(done, total) });
    },
    line(text: string): void {
      stop();
      stream.write(`${text}\n`);
    },
    stop,
  };
};
