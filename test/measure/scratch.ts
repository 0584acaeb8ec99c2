/** Where measurements keep their models and shards: large, so in a folder that outlives the run and that git ignores. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ClusterConfig } from '#tandem/coordinator/index.js';
import { parseClusterConfig } from '#tandem/coordinator/index.js';
import { graphOnly, materialise } from '../fixtures/materialise.js';

export const SCRATCH = resolve('out/measure');

/** Path of an export's `model.onnx` with its weights, made once. */
export const modelOf = async (name: string): Promise<string> => {
  const directory = join(SCRATCH, name);
  return existsSync(join(directory, 'weights.bin')) ? join(directory, 'model.onnx') : materialise(name, directory);
};

/** Path of an export's graph, without weights. */
export const graphOf = (name: string): Promise<string> => graphOnly(name, join(SCRATCH, `${name}-graph`));

/** A cluster of CPU workers with one thread each. */
export const cpuCluster = (model: string, worldSize: number, wire: 'fp32' | 'fp16' = 'fp32'): ClusterConfig =>
  parseClusterConfig(
    [
      `model: ${JSON.stringify(model)}`,
      `shards: ${JSON.stringify(join(SCRATCH, 'shards'))}`,
      'devices:',
      ...Array.from({ length: worldSize }, () => '  - { provider: cpu, threads: 1 }'),
      `wire: { dtype: ${wire} }`,
      '',
    ].join('\n'),
    join(SCRATCH, 'cluster.yaml'),
  );
