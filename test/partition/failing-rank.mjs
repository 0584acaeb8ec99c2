/** Writes two ranks' segments again and again, of which one cannot be optimised: what `failing-rank.test.ts` starts. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ONNXRUNTIME_VERSION } from '#tandem/common/onnxruntime.js';
import { createGraph, createModel, createNode, createValueInfo, encodeModel } from '#tandem/partition/onnx/index.js';
import { writeRanks } from '#tandem/partition/write/write-pool.js';

const [, , directory] = process.argv;
const LENGTH = 600;
const SEGMENTS = 8;

const nodes = Array.from({ length: LENGTH }, (_, i) =>
  createNode({ name: `n${i}`, opType: 'Sigmoid', input: [i === 0 ? 'x' : `t${i - 1}`], output: [`t${i}`] }),
);
const graph = encodeModel(
  createModel({
    irVersion: 8n,
    opsetImport: [{ domain: '', version: 17n }],
    graph: createGraph({
      name: 'chain',
      node: nodes,
      input: [createValueInfo('x', 1, [4])],
      output: [createValueInfo(`t${LENGTH - 1}`, 1, [4])],
    }),
  }),
);
const broken = new Uint8Array(40).fill(7);
const prepared = { provider: 'cpu', onnxruntime_version: ONNXRUNTIME_VERSION, layout: '' };

for (let round = 0; round < 4; round++) {
  const ranks = ['rank-0', 'rank-1'].map((folder, rank) => {
    rmSync(join(directory, folder), { recursive: true, force: true });
    mkdirSync(join(directory, folder));
    const segments = Array.from({ length: SEGMENTS }, (_, i) => ({
      file: `${folder}/${i}.onnx`,
      graph: rank === 1 && i === round ? broken : graph,
      slices: [],
    }));
    return { directory, folder, work: { kind: 'optimise', prepared, segments } };
  });
  await writeRanks(ranks, {}).catch((error) => console.log(error.code));
}
