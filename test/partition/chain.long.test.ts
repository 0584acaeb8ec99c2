import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { plan } from '#tandem/partition/index.js';
import { testDirectory } from '../support/directory.js';
import { chainModel } from './chain.js';

/** Of the processor: the machine may be busy. */
const processorMs = async (work: () => Promise<unknown>): Promise<number> => {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
};

it('plans a graph four times as long in about four times the time: no stage takes longer than it grows', async () => {
  const path = join(testDirectory(), 'chain.onnx');
  const devices = [0, 1].map(() => ({ provider: 'cpu' as const, deviceId: 0 }));
  const planMs = async (nodes: number): Promise<number> => {
    await writeFile(path, chainModel(nodes));
    return processorMs(() => plan({ model: { path }, devices, dims: {}, wire: 'fp32' }));
  };
  await planMs(1000);
  const [short, long] = [await planMs(4000), await planMs(16_000)];
  console.log(`4,000 nodes in a chain: ${Math.round(short)} ms of the processor, 16,000: ${Math.round(long)} ms`);
  expect(long).toBeLessThan(7 * short);
});
