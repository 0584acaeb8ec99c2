/**
 * What may import what. Imports run one way, coordinator -> shard-worker -> partition -> common; no file and no room imports
 * itself by way of others, types included; a room is entered by its public files alone; and each library that is a seam has one
 * file that imports it. A room is a folder of the four, or a folder in one of them.
 */
import { describe, expect, it } from 'vitest';
import { EDGES, FILES, findCircle, floorOf, IMPORTS, roomGraph, roomOf, specifiersOf } from './support/imports.js';

/** Files that other rooms may import, beside each room's index.ts. All of common/ is public. */
const PUBLIC: readonly string[] = [
  'partition/calibrate/fit.ts',
  'partition/calibrate/probe.ts',
  'partition/decide/alternatives.ts',
  'partition/decide/blocks.ts',
  'partition/mesh/shape.ts',
  'partition/plan/rates.ts',
  'partition/proof/first-wrong.ts',
  'partition/proof/road.ts',
  'partition/write/manifest.ts',
  'partition/write/optimise/open-optimised.ts',
  'partition/write/optimise/target.ts',
  'partition/write/read-manifest.ts',
  'shard-worker/check.ts',
  'shard-worker/endpoints.ts',
  'shard-worker/inputs.ts',
  'shard-worker/keys.ts',
  'shard-worker/loader.ts',
  'shard-worker/manifest-digest.ts',
  'shard-worker/memory.ts',
  'shard-worker/private-files.ts',
  'shard-worker/processes.ts',
  'shard-worker/progress-sum.ts',
  'shard-worker/protocol.ts',
  'shard-worker/recorder.ts',
  'shard-worker/runtime-files.ts',
  'shard-worker/seal.ts',
  'shard-worker/shared-memory/system.ts',
  'shard-worker/transport.ts',
  'shard-worker/wire.ts',
  'coordinator/bench/bench.ts',
  'coordinator/bench/cold-chart.ts',
  'coordinator/bench/cold-contestant.ts',
  'coordinator/bench/cold-report.ts',
  'coordinator/bench/cold.ts',
  'coordinator/bench/step-chart.ts',
  'coordinator/bench/verdict.ts',
  'coordinator/cli/run.ts',
  'coordinator/cluster/transport.ts',
  'coordinator/config/bytes.ts',
  'coordinator/config/calibration-file.ts',
  'coordinator/config/measured-rates.ts',
  'coordinator/config/nearest.ts',
  'coordinator/denoiser.ts',
  'coordinator/devices/first-config.ts',
  'coordinator/export-advice.ts',
  'coordinator/generate/follow-plan.ts',
  'coordinator/generate/generate.ts',
  'coordinator/generate/picture.ts',
  'coordinator/hooks.ts',
  'coordinator/out-file.ts',
  'coordinator/hosting/dry-run.ts',
  'coordinator/launch.ts',
  'coordinator/pipeline/picture-file.ts',
  'coordinator/pipeline/random.ts',
  'coordinator/plan-page/page.ts',
  'coordinator/shards/dims.ts',
  'coordinator/shards/mesh-plan.ts',
  'coordinator/shards/fingerprint.ts',
  'coordinator/shards/model-facts.ts',
  'coordinator/shards/model.ts',
  'coordinator/shards/prepare.ts',
  'coordinator/shards/request.ts',
  'coordinator/simulate/curves.ts',
  'coordinator/start-cluster.ts',
  'coordinator/trace.ts',
  'coordinator/verify/random-inputs.ts',
  'coordinator/verify/by-segment.ts',
  'coordinator/verify/verify.ts',
  'coordinator/verify/wire-error.ts',
];

/** Libraries behind a seam: where each may be imported. */
const SEAMS: Readonly<Record<string, string>> = {
  'onnxruntime-node': 'common/onnxruntime.ts',
  zeromq: 'shard-worker/transport.ts',
  koffi: 'shard-worker/native.ts',
  '@bufbuild': 'partition/onnx/',
};

/** Stages of the partitioner see each other's files; the four folders and the coordinator's rooms do not. */
const isInside = (from: string, to: string): boolean =>
  floorOf(from) === floorOf(to) && (roomOf(from) === roomOf(to) || !to.startsWith('coordinator/'));

const isPublic = (file: string): boolean =>
  file.startsWith('common/') || file.endsWith('/index.ts') || PUBLIC.includes(file);

describe('imports', () => {
  it('are all found: every imported file is there', () => {
    expect(EDGES.length).toBeGreaterThan(FILES.length);
    expect(EDGES.filter(([, to]) => !IMPORTS.has(to))).toEqual([]);
  });

  it('run one way: coordinator, shard-worker, partition, common', () => {
    expect(EDGES.filter(([from, to]) => floorOf(to) > floorOf(from))).toEqual([]);
  });

  it('of files run in no circle', () => {
    expect(findCircle(IMPORTS)).toBeUndefined();
  });

  it('of rooms run in no circle', () => {
    expect(findCircle(roomGraph())).toBeUndefined();
  });

  it('enter a room by its public files', () => {
    const secret = EDGES.filter(([from, to]) => !isInside(from, to) && !isPublic(to));
    expect(secret.map(([from, to]) => `${from} imports ${to}: name it in PUBLIC, or use a public file`)).toEqual([]);
  });

  it('use all that is public', () => {
    const used = new Set(EDGES.flatMap(([from, to]) => (isInside(from, to) ? [] : [to])));
    expect(PUBLIC.filter((file) => !used.has(file))).toEqual([]);
  });

  it.each(Object.entries(SEAMS))('of %s stand in %s alone', (library, place) => {
    const importers = FILES.filter((file) =>
      specifiersOf(file).some((from) => from === library || from.startsWith(`${library}/`)),
    );
    expect(importers.length).toBeGreaterThan(0);
    expect(importers.filter((file) => !file.startsWith(place))).toEqual([]);
  });
});

it('finds circles where there are some', () => {
  const graph = new Map([
    ['a', ['b']],
    ['b', ['c', 'd']],
    ['c', []],
    ['d', ['b']],
  ]);
  expect(findCircle(graph)).toEqual(['b', 'd', 'b']);
});
