/** Programs of others that check `deploy/`, as `install-tools.sh` brings them; where one is not to be had, its tests say so. */
import { execFile } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { it } from 'vitest';
import { parse, stringify } from 'yaml';
import { type ClusterConfig, readUncalibratedConfig } from '#tandem/coordinator/config/index.js';

export interface Ran {
  readonly status: number;
  /** Both streams. */
  readonly output: string;
  readonly stdout: string;
}

const PATH = [process.env.PATH ?? '', '/usr/sbin', '/sbin'].join(delimiter);
const MEBIBYTE = 1 << 20;

/** Runs a program to its end, whatever that is. */
export const run = (
  program: string,
  args: readonly string[],
  { variables = {}, cwd, timeoutMs = 120_000 }: RunOptions = {},
): Promise<Ran> =>
  new Promise((done, failed) => {
    const env = { ...process.env, PATH, ...variables };
    execFile(
      program,
      [...args],
      { env, cwd, timeout: timeoutMs, maxBuffer: 64 * MEBIBYTE },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : Number(error.code);
        if (Number.isNaN(status)) failed(new Error(`${program} did not end by itself: ${error?.message}\n${stderr}`));
        else done({ status, stdout, output: `${stdout}${stderr}` });
      },
    );
  });

export interface RunOptions {
  readonly variables?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
}

/** Standard output of a program that succeeds. */
export const succeed = async (...asked: Parameters<typeof run>): Promise<string> => {
  const { status, stdout, output } = await run(...asked);
  if (status !== 0) throw new Error(`${asked[0]} ${asked[1].join(' ')} ended with ${status}:\n${output}`);
  return stdout;
};

const isThere = (program: string): boolean =>
  (isAbsolute(program) ? [''] : PATH.split(delimiter)).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

/** `it`, where all of these programs are there; else a line says which are not. */
export const itWith = (...programs: readonly string[]): typeof it | typeof it.skip => {
  const gone = programs.filter((program) => !isThere(program));
  if (gone.length === 0) return it;
  console.warn(`Not run without ${gone.join(', ')}: test/deploy/install-tools.sh brings what can be had.`);
  return it.skip;
};

/** Checks a config that is meant for a container, whose model lies elsewhere here. @throws TandemError `CONFIG_INVALID` */
export const configInContainer = async (text: string): Promise<ClusterConfig> => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-config-'));
  const file = join(directory, 'tandem.yaml');
  try {
    writeFileSync(file, stringify({ ...parse(text), model: resolve('models/emoji-sd') }));
    return await readUncalibratedConfig(file);
  } finally {
    rmSync(directory, { recursive: true });
  }
};
