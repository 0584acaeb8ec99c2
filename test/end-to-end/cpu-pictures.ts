/** Clusters of CPU workers of a thread each with one of their settings changed, and the pictures that they make. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { type ClusterConfig, type GenerateRequest, generate, parseClusterConfig } from '#tandem/coordinator/index.js';

/**
 * @param scratch has the shards, as a cache has them
 * @param setting a line of the config
 */
export const cpuConfig = (scratch: string, model: string, worldSize: number, setting: string): ClusterConfig =>
  parseClusterConfig(
    [
      `model: ${JSON.stringify(model)}`,
      setting,
      `shards: ${JSON.stringify(join(scratch, 'tandem', 'shards'))}`,
      'parallel: tensor',
      'devices:',
      ...Array.from({ length: worldSize }, () => '  - { provider: cpu, threads: 1 }'),
      '',
    ].join('\n'),
    join(scratch, 'cluster.yaml'),
  );

/** A red apple's elements. */
export const paint = async (
  request: Pick<GenerateRequest, 'config' | 'numInferenceSteps' | 'onNotice' | 'out'>,
): Promise<Uint8Array> => {
  const { file } = await generate({ ...request, prompt: 'a red apple', seed: 1 });
  return new Uint8Array(decode(await readFile(file)).data);
};
