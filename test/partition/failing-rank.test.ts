import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { inDirectory } from './stages.js';

it('a rank that cannot be prepared ends no thread in which ONNX Runtime prepares another: the process lives', async () => {
  await inDirectory(async (directory) => {
    const child = spawn(process.execPath, [resolve('test/partition/failing-rank.mjs'), directory]);
    const [said, status] = await Promise.all([
      text(child.stdout),
      new Promise((done) => child.once('close', (code, signal) => done(signal ?? code))),
    ]);
    expect(status).toBe(0);
    expect(said.trim().split('\n')).toEqual(Array(4).fill('PREPARE_FAILED'));
  });
});
