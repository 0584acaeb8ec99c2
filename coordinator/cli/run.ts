/**
 * Runs one command and turns its end into an exit status:
 * 0 done, 1 failed, 2 not understood, 128 + the signal's number where a signal stopped it.
 */
import { constants } from 'node:os';
import { CommanderError } from 'commander';
import { TandemError } from '../../common/errors.js';
import { systemError } from '../../common/system-errors.js';
import { cancelled, terminated } from '../hooks.js';
import { createProgram } from './command-line.js';
import type { ProcessContext } from './context.js';

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** After this a stop that does not come to its end is ended; workers exit by themselves when their coordinator is gone. */
const STOP_LIMIT_MS = 15_000;

interface Stop {
  readonly signal: AbortSignal;
  /** Exit status that the signal asks for, once one came. */
  status(): number | undefined;
  /** Gives the end of a stop more time, in ms, for a command that finishes what it has begun. */
  allow(ms: number): void;
  dispose(): void;
}

const statusOf = (name: (typeof STOP_SIGNALS)[number]): number => 128 + constants.signals[name];

const PARENT_CHECK_MS = 500;

/** npx runs us under a shell that dies of a signal without passing it on: the parent that is gone is the signal. */
const watchNpx = (onGone: () => void): NodeJS.Timeout | undefined => {
  if (process.env.npm_command !== 'exec') return undefined;
  const parent = process.ppid;
  return setInterval(() => process.ppid !== parent && onGone(), PARENT_CHECK_MS).unref();
};

/** The first Ctrl-C cancels; the second one leaves at once. */
const listenForStop = (): Stop => {
  const controller = new AbortController();
  let status: number | undefined;
  let limitMs = STOP_LIMIT_MS;
  const onSignal = (name: NodeJS.Signals): void => {
    const asked = name === 'SIGTERM' ? statusOf('SIGTERM') : statusOf('SIGINT');
    if (status !== undefined) process.exit(asked);
    status = asked;
    process.stderr.write('\nStopping; press Ctrl-C again to leave at once.\n');
    setTimeout(() => process.exit(asked), limitMs).unref();
    controller.abort(name === 'SIGTERM' ? terminated() : cancelled());
  };
  for (const name of STOP_SIGNALS) process.on(name, onSignal);
  const npx = watchNpx(() => {
    clearInterval(npx);
    onSignal('SIGTERM');
  });
  return {
    signal: controller.signal,
    status: () => status,
    allow: (ms) => {
      limitMs = STOP_LIMIT_MS + ms;
    },
    dispose: () => {
      clearInterval(npx);
      for (const name of STOP_SIGNALS) process.off(name, onSignal);
    },
  };
};

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What a person is told of an error: message and problems, never a stack. */
const describeError = (error: unknown): string => {
  const problems = error instanceof TandemError ? error.problems : [];
  const hint = error instanceof TandemError ? '' : ' (not an error that Tandem foresees; --verbose shows its stack)';
  return [`error: ${message(error)}${hint}`, ...problems.map((problem) => `  ${problem}`)].join('\n');
};

const reportError = (thrown: unknown, stop: Stop, verbose: boolean): number => {
  const error = systemError(thrown) ?? thrown;
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const status = stop.status();
  if (status !== undefined) {
    process.stderr.write('Cancelled.\n');
    return status;
  }
  process.stderr.write(`${describeError(error)}\n`);
  if (verbose && error instanceof Error && error.stack) process.stderr.write(`${error.stack}\n`);
  return error instanceof TandemError && error.code === 'USAGE' ? EXIT_USAGE : EXIT_FAILED;
};

/**
 * Runs the command line.
 * @param args without the program's own name
 * @returns the exit status
 */
export const runCli = async (args: readonly string[]): Promise<number> => {
  const stop = listenForStop();
  let status = 0;
  try {
    const context: ProcessContext = {
      signal: stop.signal,
      setStatus: (value) => {
        status = value;
      },
      allowStop: stop.allow,
    };
    const program = await createProgram(context, args);
    await program.parseAsync(args, { from: 'user' });
    return stop.status() ?? status;
  } catch (error) {
    return reportError(error, stop, args.includes('--verbose'));
  } finally {
    stop.dispose();
  }
};
