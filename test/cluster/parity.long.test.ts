import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSession } from '#tandem/common/onnxruntime.js';
import { errorOf, FIXTURES, floats, isAlive, mlpInput, toFloats, until, withCluster } from './helpers.js';

const wholeModel = async (): Promise<Float32Array> => {
  const session = await openSession(join(FIXTURES, 'model.onnx'), { provider: 'cpu', threads: 1, optimization: 'all' });
  const outputs = await session.run(mlpInput());
  await session.dispose();
  return toFloats(outputs.y);
};

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  Math.max(...a.map((value, i) => Math.abs(value - (b[i] ?? Number.NaN))));

describe.each(['shared-memory', 'ipc'] as const)('over %s', (transport) => {
  it.each([
    ['two ranks', 'mlp-2', 1e-5],
    ['three ranks', 'mlp-3', 1e-5],
    ['two ranks with fp16 on the wire', 'mlp-2-fp16', 5e-2],
  ])('predicts with %s what the whole model predicts', async (_, name, tolerance) => {
    const expected = await wholeModel();
    await withCluster(
      name,
      async (cluster) => {
        const { y } = await cluster.network().step(mlpInput());
        expect(y?.shape).toEqual([2, 6]);
        const difference = largestDifference(expected, toFloats(y));
        expect(difference).toBeLessThan(tolerance);
      },
      { transport },
    );
  });

  it('really rounds to fp16 where the wire is fp16', async () => {
    const expected = await wholeModel();
    const actual = await withCluster(
      'mlp-2-fp16',
      async (cluster) => toFloats((await cluster.network().step(mlpInput())).y),
      {
        transport,
      },
    );
    expect(largestDifference(expected, actual)).toBeGreaterThan(1e-6);
  });

  it('gives every rank the same bits, step after step', async () => {
    await withCluster(
      'mlp-3',
      async (cluster) => {
        const { ranks } = await cluster.step([mlpInput()], { outputs: 'all' });
        expect(new Set(ranks.map((rank) => rank.outputs_sha256)).size).toBe(1);
        expect(new Set(ranks.map((rank) => Buffer.from(rank.outputs?.[0]?.y?.data ?? []).toString('hex'))).size).toBe(
          1,
        );
        const digest = ranks[0]?.outputs_sha256;
        for (let step = 0; step < 20; step += 1) {
          const again = await cluster.step([mlpInput()]);
          expect(again.ranks.map((rank) => rank.outputs_sha256)).toEqual([digest, digest, digest]);
          expect(again.ranks.map((rank) => rank.outputs !== undefined)).toEqual([true, false, false]);
        }
      },
      { transport },
    );
  });

  it('runs micro-batches at once, each with the result that it has alone', async () => {
    const microBatches = [1, -2, 0.5].map((x) => ({ x: floats([x], [1]) }));
    await withCluster(
      'large',
      async (cluster) => {
        for (let step = 0; step < 5; step += 1) {
          const { outputs, ranks } = await cluster.step(microBatches, { outputs: 'all' });
          expect(outputs.map(({ y }) => [...toFloats(y)])).toEqual([
            [3, 3],
            [-6, -6],
            [1.5, 1.5],
          ]);
          expect(ranks[1]?.outputs).toEqual(outputs);
          expect(ranks.map(({ times }) => times.sent_bytes)).toEqual([3 * ((20 << 20) + 4), 3 * ((20 << 20) + 4)]);
          expect(new Set(ranks.map(({ outputs_sha256 }) => outputs_sha256)).size).toBe(1);
        }
        expect((await errorOf(cluster.step([]))).code).toBe('STEP_INPUTS');
      },
      { transport },
    );
  });

  it('exchanges tensors of 20 MB, both ways at once', async () => {
    await withCluster(
      'large',
      async (cluster) => {
        for (const x of [1, 2.5, -3]) {
          const { outputs, ranks } = await cluster.step([{ x: floats([x], [1]) }]);
          // Every element is x of rank 0 plus 2x of rank 1.
          expect([...toFloats(outputs[0]?.y)]).toEqual([3 * x, 3 * x]);
          expect(ranks.map((rank) => rank.times.sent_bytes)).toEqual([(20 << 20) + 4, (20 << 20) + 4]);
        }
      },
      { transport },
    );
  });
});

it('ends with the same bits whatever lies between the ranks', async () => {
  const digests: (string | undefined)[] = [];
  for (const transport of ['auto', 'shared-memory', 'ipc', 'tcp'] as const) {
    const { ranks } = await withCluster('mlp-2', (cluster) => cluster.step([mlpInput()]), { transport });
    digests.push(...ranks.map(({ outputs_sha256 }) => outputs_sha256));
  }
  expect(new Set(digests).size).toBe(1);
});

it('tells pids, weights, load times, memory and step times of all ranks', async () => {
  const progress: string[] = [];
  const onProgress = (stage: string, done: number, total: number): void =>
    void progress.push(`${stage} ${done}/${total}`);
  const pids = await withCluster(
    'mlp-2',
    async (cluster) => {
      expect(cluster.network().inputs).toEqual([{ name: 'x', dtype: 'float32', shape: [2, 8] }]);
      expect(cluster.workers.map((worker) => [worker.rank, worker.weight_bytes])).toEqual([
        [0, 768],
        [1, 576],
      ]);
      expect(cluster.workers.every((worker) => worker.load_ms > 0 && worker.memory.private_bytes > 1e6)).toBe(true);
      expect(cluster.lastStep).toEqual([]);
      await cluster.network().step(mlpInput());
      expect(cluster.lastStep.map((rank) => rank.rank)).toEqual([0, 1]);
      for (const { times, memory } of cluster.lastStep) {
        expect(times.total_ms).toBeGreaterThanOrEqual(times.compute_ms);
        expect(memory.peak_private_bytes).toBeGreaterThanOrEqual(memory.private_bytes);
      }
      return cluster.workers.map((worker) => worker.pid);
    },
    { onProgress },
  );
  expect(progress).toContain('load 6/6');
  await until(() => !pids.some(isAlive));
});
