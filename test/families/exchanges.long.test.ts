/** Small exports of further families exchange inside of their blocks about as often as the best split by hand. */
import { expect, it, vi } from 'vitest';
import { decide } from '#tandem/partition/decide/decide.js';
import { makeReport } from '#tandem/partition/decide/report.js';
import { findScopes } from '#tandem/partition/graph/scopes.js';
import { readModel } from '#tandem/partition/read/index.js';
import { MORE_FAMILIES } from '../fixtures/families.js';
import { graphOnly } from '../fixtures/materialise.js';
import { countInside, countRoundsInside, inDirectory, readGraph } from '../partition/stages.js';

// A busy machine.
vi.setConfig({ testTimeout: 180_000 });

const MOST = 1.25;

/** Norms over all heads are many small tensors, of which some travel together: what counts is how often there is an exchange. */
const NORMED = ['wan', 'ltx'];

/** Grouped queries of two key heads, and norms over all heads. */
const CASES: readonly (readonly [family: string, exporter: string, ranks: number])[] = [
  ['lumina2', 'ts17', 2],
  ['lumina2', 'ts17', 3],
  ['lumina2', 'ts17', 4],
  ['lumina2', 'dynamo18', 3],
  ['lumina2', 'dynamo18', 4],
  ['wan', 'dynamo18', 4],
  ['ltx', 'dynamo18', 3],
];

it.each(CASES)('%s of %s on %i ranks', async (family, exporter, ranks) => {
  await inDirectory(async (directory) => {
    const path = await graphOnly(`families/${family}-${exporter}`, directory);
    const graph = await readGraph(path);
    const scopes = findScopes(graph, (await readModel(path, { requireWeights: false })).model);
    const devices = Array.from({ length: ranks }, () => ({ provider: 'cpu', deviceId: 0, speed: 1 }) as const);
    const decided = decide(graph, { devices, wire: 'fp32', split: 'tensor', scopes, finish: (programs) => programs });
    const report = makeReport(decided);
    const byHand = MORE_FAMILIES[family];
    expect(report.sharded_weight_fraction).toBeGreaterThanOrEqual(0.95);
    expect(report.sharded_flop_fraction).toBeGreaterThanOrEqual(0.95);
    expect(countInside(report)).toBeLessThanOrEqual(MOST * (byHand?.byHand ?? 0));
    if (NORMED.includes(family))
      expect(countRoundsInside(report, decided.cut)).toBeLessThanOrEqual(MOST * (byHand?.rounds ?? 0));
  });
});
