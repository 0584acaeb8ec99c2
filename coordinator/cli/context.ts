/** What every command gets: its way to speak (results, progress, log) and the signal that stops it. */
import { type Logger, pino } from 'pino';
import type { Hooks } from '../hooks.js';
import { checkOutFile } from '../out-file.js';
import { Trace } from '../trace.js';
import type { Progress } from './progress.js';
import { progressOn } from './progress-stream.js';

/** What the process gives to the commands. */
export interface ProcessContext {
  readonly signal: AbortSignal;
  /** Exit status of a command that ran to its end and found something wrong, such as a failed `verify`. */
  setStatus(status: number): void;
  /** Gives the command's end after a signal more time, in ms. */
  allowStop(ms: number): void;
}

/** Options that every command has. */
export interface CommonOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
  /** File for what the ranks did when; commands that step have it. */
  readonly trace?: string;
}

export interface CommandContext extends Required<Omit<Hooks, 'onStepTrace'>>, Pick<Hooks, 'onStepTrace'> {
  readonly log: Logger;
  readonly progress: Progress;
  readonly setStatus: (status: number) => void;
  /** The result: as JSON alone on standard output with `--json`, else as text for people. */
  print(result: unknown, text: () => string): void;
}

const createLog = (verbose: boolean): Logger =>
  pino({ name: 'tandem', level: verbose ? 'debug' : 'silent' }, process.stderr);

const writeOut = (text: string): void => void process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);

/** Runs a command's work with its context and leaves the terminal clean afterwards. */
export const withContext = async <T>(
  outer: ProcessContext,
  options: CommonOptions,
  work: (context: CommandContext) => Promise<T>,
): Promise<T> => {
  const log = createLog(options.verbose === true);
  const progress = await progressOn(process.stderr);
  const trace = options.trace === undefined ? undefined : new Trace(await checkOutFile(options.trace));
  const context: CommandContext = {
    log,
    progress,
    signal: outer.signal,
    setStatus: outer.setStatus,
    onProgress: (stage, done, total) => {
      progress.update(stage, done, total);
      log.trace({ stage, done, total }, 'progress');
    },
    onNotice: (notice) => progress.line(notice),
    ...(trace ? { onStepTrace: trace.add } : {}),
    print: (result, text) => {
      progress.stop();
      writeOut(options.json ? JSON.stringify(result, null, 2) : text());
    },
  };
  const start = performance.now();
  log.debug({ pid: process.pid, node: process.version }, 'started');
  try {
    return await work(context);
  } finally {
    progress.stop();
    await trace?.write();
    log.debug({ ms: Math.round(performance.now() - start) }, 'ended');
  }
};
