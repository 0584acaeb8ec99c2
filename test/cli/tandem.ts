/** The command line as a user has it: a real process of `bin/tandem.js`, with a cache of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { onTestFailed } from 'vitest';
import { type Directory, makeDirectory } from '../support/directory.js';
import { copyPrepared } from '../support/prepared.js';

export { isAlive } from '../support/processes.js';

/** For a test's files and its cache, which has the shipped model's shards as after a first picture. */
export const makePreparedScratch = (): Directory => {
  const directory = makeDirectory();
  copyPrepared(directory.path);
  return directory;
};

export { makeDirectory as makeScratch };

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What came on standard output so far, once `pattern` is in it. */
  printed(pattern: RegExp): Promise<string>;
}

const BIN = resolve('bin/tandem.js');
const LIMIT_MS = process.env.TANDEM_TESTS === 'long' ? 400_000 : 100_000;

/** Sizes of the shipped model's dims for its own 64x64 picture with guidance. */
export const SHIPPED_DIMS = ['batch_size=2', 'height=16', 'width=16', 'sequence_length=32'].flatMap((dim) => [
  '--dim',
  dim,
]);

/** Starts a command; `scratch` is where its cache is. */
export const start = (
  args: readonly string[],
  scratch: string,
  variables: Readonly<Record<string, string>> = {},
): Running => {
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { ...process.env, XDG_CACHE_HOME: scratch, ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  let seen = '';
  child.stdout.on('data', (chunk: Buffer) => {
    seen += chunk.toString();
  });
  const streams = Promise.all([text(child.stdout), text(child.stderr)]);
  const status = new Promise<number | null>((done) => child.once('close', done));
  const ended = Promise.all([status, streams]).then(([code, [stdout, stderr]]) => ({ status: code, stdout, stderr }));
  const printed = async (pattern: RegExp): Promise<string> => {
    const deadline = Date.now() + LIMIT_MS;
    while (!pattern.test(seen)) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new Error(`Never printed ${pattern}: ${(await ended).stderr}`);
      await new Promise((next) => setTimeout(next, 20));
    }
    return seen;
  };
  return { child, ended, printed };
};

/** Runs a command to its end. What it said is shown when the test fails. */
export const tandem = async (
  args: readonly string[],
  scratch: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<Ended> => {
  const ended = await start(args, scratch, variables).ended;
  onTestFailed(() => {
    process.stderr.write(`tandem ${args.join(' ')}: ${ended.status}\n${ended.stdout}${ended.stderr}\n`);
  });
  return ended;
};
