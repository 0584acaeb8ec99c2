import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, relative, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, it } from 'vitest';
import { createLineProgress } from '#tandem/coordinator/cli/progress-lines.js';
import { makePreparedScratch, tandem } from './tandem.js';

const scratch = makePreparedScratch();
afterAll(scratch.remove);

/** What a pipe gets of a stage with steps of that length. */
const linesOf = async (steps: number, stepMs: number): Promise<readonly string[]> => {
  const stream = new PassThrough();
  let now = 0;
  const progress = createLineProgress(stream, () => now);
  for (let step = 0; step <= steps; step++, now += stepMs) progress.update('denoise', step, steps);
  stream.end();
  return (await text(stream)).split('\n').slice(0, -1);
};

describe('progress in a pipe', () => {
  it('says for slow steps how far it is, how fast, and how long it will take', async () => {
    expect(await linesOf(3, 5_000)).toEqual([
      'denoise: 1/3 (33 %), 5.00 s each, 10 s left',
      'denoise: 2/3 (66 %), 5.00 s each, 5 s left',
      'denoise: 3/3 (100 %)',
    ]);
  });

  it('says it every two seconds at most, and nothing of a stage that is done before', async () => {
    expect(await linesOf(20, 250)).toEqual([
      'denoise: 8/20 (40 %), 4.0 a second, 3 s left',
      'denoise: 16/20 (80 %), 4.0 a second, 1 s left',
      'denoise: 20/20 (100 %)',
    ]);
    expect(await linesOf(20, 50)).toEqual([]);
  });

  it('is one count over all steps of a picture', async () => {
    const config = 'configs/single-cpu.yaml';
    const args = ['generate', '--config', config, '--prompt', 'a red apple', '--num-inference-steps', '250'];
    const { status, stderr } = await tandem([...args, '--out', join(scratch.path, 'long.png')], scratch.path);
    expect(status).toBe(0);
    const counts = [...stderr.matchAll(/^denoise: (\d+)\/250 \(\d+ %\), .+ left$/gm)].map((match) => Number(match[1]));
    expect(counts.length).toBeGreaterThan(0);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(stderr).toMatch(/^denoise: 250\/250 \(100 %\)$/m);
  });
});

describe('progress on a terminal', () => {
  it('is one bar for all steps, with rate and time left', async () => {
    const bar = relative(process.cwd(), resolve('dist/coordinator/cli/progress-bar.js'));
    const script = `
      const { createBarProgress } = await import('./${bar}');
      const progress = createBarProgress(Object.assign(process.stdout, { isTTY: true, cursorTo() {}, clearLine() {} }));
      for (let step = 0; step <= 4; step++) {
        progress.update('denoise', step, 4);
        await new Promise((next) => setTimeout(next, 150));
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, COLUMNS: '120' },
    });
    const shown = await text(child.stdout);
    expect(shown).toMatch(/denoise \[.*\] 50% \| 2\/4 \| .* \| [\d.]+ a second, \d+ s left/);
    expect(shown.match(/0\/4/g)?.length).toBeLessThanOrEqual(3);
  });
});

describe('an error of a start', () => {
  it('is told in plain words, without log lines before it', async () => {
    const other = createServer();
    await new Promise<void>((done) => void other.listen(0, '127.0.0.1', done));
    const address = other.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const { status, stderr } = await tandem(
      ['launch', 'configs/single-cpu.yaml', '--port', String(port)],
      scratch.path,
    );
    other.close();
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: Expected to listen on 127\.0\.0\.1:\d+; another program listens there/);
    expect(stderr).not.toMatch(/^\{/m);
  });
});

describe('the files of progress', () => {
  it('do not import each other in a circle', () => {
    expect(readFileSync(resolve('dist/coordinator/cli/progress.js'), 'utf8')).not.toMatch(/progress-/);
  });
});
