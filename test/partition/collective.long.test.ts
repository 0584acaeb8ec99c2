/** Reduce-scatters in whole exports. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CollectiveKind } from '#tandem/partition/graph/collective.js';
import { manifestProblems } from '#tandem/partition/write/manifest-rules.js';
import { materialise } from '../fixtures/materialise.js';
import { cpus, runModel } from './collective-runs.js';
import { countGathers, inDirectory } from './stages.js';

describe('real exports with reduce-scatters', () => {
  it.each([
    ['families/zimage-dynamo23', [1, 1, 1], { wholeInTwo: 1, onlyScattered: 0 }],
    ['families/vae-dynamo18', [1, 1, 1, 1], { wholeInTwo: 1, onlyScattered: 1 }],
  ])('%s at speeds %s gives what the whole model gives', async (name, speeds, least) => {
    await inDirectory(async (directory) => {
      const path = await materialise(name, directory);
      const request = { model: { path }, devices: cpus(speeds, 0), dims: {}, wire: 'fp32' } as const;
      const { report, error, manifest } = await runModel(request, join(directory, 'shards'));
      const kinds = report.collectives.map(({ kind }) => kind);
      const count = (wanted: CollectiveKind) => kinds.filter((kind) => kind === wanted).length;
      const wholeInTwo = count('all-gather') - countGathers(report);
      expect(wholeInTwo).toBeGreaterThanOrEqual(least.wholeInTwo);
      expect(count('reduce-scatter') - wholeInTwo).toBeGreaterThanOrEqual(least.onlyScattered);
      expect(manifestProblems(manifest)).toEqual([]);
      expect(error).toBeLessThan(1e-5);
    });
  });
});
