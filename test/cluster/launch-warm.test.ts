import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { isAlive, withDirectory } from './helpers.js';

const MAIN = resolve('dist/coordinator/main.js');

interface Launched {
  readonly child: ChildProcess;
  readonly pids: readonly number[];
  /** ms */
  readonly readyMs: number;
}

const launch = async (file: string, runtime: string): Promise<Launched> => {
  const start = performance.now();
  const child = spawn(process.execPath, [MAIN, 'launch', file, '--json'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, XDG_RUNTIME_DIR: runtime },
  });
  let text = '';
  for await (const chunk of child.stdout) {
    text += String(chunk);
    if (text.trimEnd().endsWith('}')) break;
  }
  const { workers } = JSON.parse(text) as { workers: { pid: number }[] };
  return { child, pids: workers.map((worker) => worker.pid), readyMs: performance.now() - start };
};

const end = async ({ child }: Launched, signal: NodeJS.Signals): Promise<void> => {
  const gone = once(child, 'exit');
  child.kill(signal);
  await gone;
};

it('serves again with the same workers when `tandem launch` was killed, and leaves none when it is told to stop', async () => {
  await withDirectory(async (directory) => {
    const runtime = join(directory, 'run');
    await mkdir(runtime, { mode: 0o700 });
    const file = join(directory, 'cluster.yaml');
    const devices = '[{ provider: cpu, threads: 1 }, { provider: cpu, threads: 1 }]';
    await writeFile(
      file,
      [
        `model: ${resolve('models/emoji-sd')}`,
        `devices: ${devices}`,
        'parallel: tensor',
        'placement: { text_encoder: shard, vae_decoder: { rank: 1 } }',
        'server: { port: 0 }',
        '',
      ].join('\n'),
    );
    const first = await launch(file, runtime);
    const pids = new Set(first.pids);
    try {
      await end(first, 'SIGKILL');
      expect(first.pids.every(isAlive)).toBe(true);
      const second = await launch(file, runtime);
      for (const pid of second.pids) pids.add(pid);
      console.log(`tandem launch: ready after ${Math.round(first.readyMs)} ms, warm ${Math.round(second.readyMs)} ms`);
      expect(second.pids).toEqual(first.pids);
      await end(second, 'SIGTERM');
      expect(first.pids.some(isAlive)).toBe(false);
      expect(await readdir(join(runtime, 'tandem')).catch(() => [])).toEqual([]);
    } finally {
      for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    }
  });
});
