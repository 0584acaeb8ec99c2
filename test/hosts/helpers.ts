/** Leaders and further hosts as their users start them: the built command line, by itself or on a test's network. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const BIN = resolve('bin/tandem.js');
export const MODEL = resolve('models/emoji-sd');
const LIMIT_MS = 120_000;
/** No program outlives a test file by this. */
const LIFE_MS = 600_000;

export interface Program {
  readonly child: ChildProcess;
  /** Standard output and standard error together, so far. */
  readonly text: () => string;
  readonly ended: Promise<number | null>;
  /** Waits until the pattern was said. */
  said(pattern: RegExp, limitMs?: number): Promise<string>;
}

/** @param before words that put it on a host */
export const startProgram = (args: readonly string[], cache: string, before: readonly string[] = []): Program => {
  const [command = process.execPath, ...rest] = [...before, process.execPath, BIN, ...args];
  const child = spawn(command, rest, {
    env: { ...process.env, XDG_CACHE_HOME: cache },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: LIFE_MS,
    killSignal: 'SIGKILL',
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  const ended = new Promise<number | null>((done) => child.once('close', done));
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  const said = async (pattern: RegExp, limitMs = LIMIT_MS): Promise<string> => {
    const end = performance.now() + limitMs;
    while (!pattern.test(text)) {
      if (isOver || performance.now() > end) throw new Error(`Never said ${pattern}:\n${text}`);
      await delay(10);
    }
    return text;
  };
  return { child, text: () => text, ended, said };
};

/** @returns the config's file */
export const writeConfig = (directory: string, name: string, lines: readonly string[]): string => {
  const file = join(directory, `${name}.yaml`);
  writeFileSync(
    file,
    [
      `model: ${MODEL}`,
      'parallel: tensor',
      'wire: { link: { gbit_per_s: 4, latency_ms: 0.5 } }',
      ...lines,
      'defaults: { num_inference_steps: 4 }',
      '',
    ].join('\n'),
  );
  return file;
};

export const CPU = '{ provider: cpu, threads: 1 }';

export const generateArguments = (config: string, out: string): readonly string[] => [
  ...['generate', '--config', config, '--prompt', 'a red apple', '--seed', '7', '--out', out],
];
