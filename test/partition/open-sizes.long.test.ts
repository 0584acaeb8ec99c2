/** Sizes that constants decide, in a whole export. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { plan } from '#tandem/partition/index.js';
import { makeScratch, tandem } from '../cli/tandem.js';
import { dimsOf } from '../fixtures/families.js';
import { materialise } from '../fixtures/materialise.js';

it('FLUX as Optimum exports it, whose rotary positions are chosen by constants, is verified on two and three ranks', async () => {
  const scratch = makeScratch();
  try {
    const model = await materialise('families/flux-optimum18', join(scratch.path, 'flux'));
    const dims = dimsOf('flux-optimum18');
    const devices = [1, 1].map(() => ({ provider: 'cpu', deviceId: 0 }) as const);
    const report = await plan({ model: { path: model }, devices, dims, wire: 'fp32' });
    expect(report.replicated.filter(({ reason }) => reason.includes('depend on data'))).toEqual([]);
    const sizes = Object.entries(dims).flatMap(([name, size]) => ['--dim', `${name}=${size}`]);
    for (const ranks of ['2', '3']) {
      const ended = await tandem(['verify', model, '--tensor-parallel-size', ranks, ...sizes], scratch.path);
      expect(ended.stdout).toMatch(/^PASSED/);
      expect(ended.status).toBe(0);
    }
  } finally {
    scratch.remove();
  }
});
