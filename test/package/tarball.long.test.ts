/**
 * The package as others get it: packed, installed from its tarball in an empty folder, and used there, on every Node that it promises
 * to run on. There are no build tools on the path, and nothing but the npm registry to install from.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { decode } from 'fast-png';
import { beforeAll, describe, expect, it } from 'vitest';
import { fileDirectory } from '../support/directory.js';

const scratch = fileDirectory();

interface Ran {
  readonly status: number | null;
  readonly output: string;
}

const run = async (command: string, args: readonly string[], cwd: string, path?: string): Promise<Ran> => {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|ONNXRUNTIME|NODE_OPTIONS|VITEST)/i.test(name),
  );
  const env = { ...Object.fromEntries(inherited), NO_COLOR: '1', XDG_CACHE_HOME: join(scratch, 'cache') };
  const child = spawn(command, args, { cwd, env: path === undefined ? env : { ...env, PATH: path } });
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  const status = await new Promise<number | null>((done, failed) => child.once('close', done).once('error', failed));
  return { status, output: (await output).join('') };
};

/** Fails with what the command said. */
const succeed = async (...asked: Parameters<typeof run>): Promise<string> => {
  const { status, output } = await run(...asked);
  if (status !== 0) throw new Error(`${asked[0]} ${asked[1].join(' ')} ended with ${status}:\n${output}`);
  return output;
};

const onPath = (tool: string): string => {
  const found = (process.env.PATH ?? '').split(delimiter).map((directory) => join(directory, tool));
  const path = found.find(existsSync);
  if (path === undefined) throw new Error(`Expected ${tool} on the path.`);
  return path;
};

/** A path with one Node, npm and a shell on it, and nothing that compiles. */
const pathWith = async (major: number): Promise<string> => {
  const prefix = join(scratch, `node-${major}`);
  const install = ['install', '--silent', '--no-save', '--no-audit', '--no-fund', '--prefix', prefix, `node@${major}`];
  await succeed(onPath('npm'), install, scratch);
  const bin = join(scratch, `bin-${major}`);
  mkdirSync(bin);
  symlinkSync(join(prefix, 'node_modules', 'node', 'bin', 'node'), join(bin, 'node'));
  for (const tool of ['npm', 'npx', 'sh']) symlinkSync(onPath(tool), join(bin, tool));
  expect(await succeed(join(bin, 'node'), ['--version'], scratch)).toMatch(new RegExp(`^v${major}\\.`));
  return bin;
};

let tarball: string;
beforeAll(async () => {
  const packed = await succeed(
    onPath('npm'),
    ['pack', '--ignore-scripts', '--silent', '--pack-destination', scratch],
    resolve('.'),
  );
  tarball = join(scratch, packed.trim().split('\n').at(-1) ?? '');
});

/** An empty folder with the tarball installed. */
const consumer = async (name: string, path: string, ...more: string[]): Promise<string> => {
  const folder = join(scratch, name);
  mkdirSync(folder);
  const log = await succeed(
    'npm',
    ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball, ...more],
    folder,
    path,
  );
  expect(log).not.toMatch(/EBADENGINE|Unknown project config/);
  const cuda = 'node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so';
  expect(existsSync(join(folder, cuda))).toBe(false);
  return folder;
};

/** What `npx tandem` says without a warning of npm's own. */
const draw = async (folder: string, path: string): Promise<void> => {
  const config = 'node_modules/tandem/configs/single-cpu.yaml';
  const args = ['tandem', 'generate', '--config', config, '--prompt', 'a red apple', '--num-inference-steps', '2'];
  expect(await succeed('npx', [...args, '--out', 'apple.png'], folder, path)).not.toMatch(/npm warn/i);
  expect(decode(readFileSync(join(folder, 'apple.png')))).toMatchObject({ width: 64, height: 64 });
};

const PROGRAM = `
import { type GenerateReport, generate, PROVIDERS, readClusterConfig } from 'tandem';
const config = await readClusterConfig('node_modules/tandem/configs/single-cpu.yaml');
const request = { config, prompt: 'a green leaf', numInferenceSteps: 2, seed: 3, out: 'leaf.webp' };
const report: GenerateReport = await generate(request);
const seed: number = report.seed;
if (seed !== 3 || !PROVIDERS.includes('cpu')) throw new Error('unreachable');
`;

const TSCONFIG = {
  compilerOptions: { module: 'nodenext', target: 'es2023', strict: true, skipLibCheck: false, types: ['node'] },
  include: ['use.mts'],
};

/** Compiles the program against our declarations, with every check that a strict project has, and runs it. */
const callLibrary = async (folder: string, path: string): Promise<void> => {
  writeFileSync(join(folder, 'use.mts'), PROGRAM);
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(TSCONFIG));
  await succeed('node', [resolve('node_modules/typescript/bin/tsc'), '-p', '.'], folder, path);
  await succeed('node', ['use.mjs'], folder, path);
  expect(readFileSync(join(folder, 'leaf.webp')).toString('latin1')).toMatch(/^RIFF.{4}WEBP/s);
};

/** Installs download a Node and a hundred packages, as fast as the registry gives them. */
const LIMIT_MS = 600_000;

describe('the tarball', { timeout: LIMIT_MS }, () => {
  it.each([20, 22, 24, 26])('installs in an empty folder, draws, and is a typed library on Node %i', async (major) => {
    const path = await pathWith(major);
    const folder = await consumer(`on-${major}`, path, '@types/node@20');
    await draw(folder, path);
    await callLibrary(folder, path);
  });

  it('draws where no install script was run', async () => {
    const path = join(scratch, 'bin-24');
    await draw(await consumer('without-scripts', path, '--ignore-scripts'), path);
  });
});
