/** Several denoising loops on the same workers. */
import { expect, it } from 'vitest';
import { errorOf, iterations, mlpInput, withCluster } from './helpers.js';

const LONG = 3_000;

it('takes the steps of several loops in turn, the one that waited longest first', async () => {
  await withCluster('slow', async (cluster) => {
    const order: string[] = [];
    const loop = async (name: string): Promise<void> => {
      for (let step = 0; step < 3; step++) {
        await cluster.network().step(iterations(LONG));
        order.push(name);
      }
    };
    await Promise.all([loop('a'), loop('b'), loop('c')]);
    expect(order.join('')).toBe('abcabcabc');
  });
});

it('leaves the other loops alone where one is cancelled while it waits', async () => {
  await withCluster('slow', async (cluster) => {
    const network = cluster.network();
    const expected = await network.step(iterations(LONG));
    const gone = new AbortController();
    const first = network.step(iterations(LONG));
    const cancelled = network.step(iterations(1), gone.signal).catch((error: unknown) => error);
    const last = network.step(iterations(LONG));
    gone.abort('nobody waits for it');
    expect(await cancelled).toBe('nobody waits for it');
    expect([await first, await last]).toEqual([expected, expected]);
    await expect(network.step(iterations(1), gone.signal)).rejects.toBe('nobody waits for it');
  });
});

it('finishes every step that waits when a worker is lost under one of them, with the same results', async () => {
  await withCluster(
    'slow',
    async (cluster) => {
      const network = cluster.network();
      const expected = await network.step(iterations(LONG));
      const steps = [1, 2, 3].map(() => network.step(iterations(LONG)));
      process.kill(cluster.workers[1]?.pid ?? 0, 'SIGKILL');
      expect(await Promise.all(steps)).toEqual([expected, expected, expected]);
      expect(cluster.restarts).toBe(1);
    },
    { restart: { maxAttempts: 2, backoffMs: 10, capMs: 10 } },
  );
});

it('refuses inputs that do not fit at once, whatever is under way', async () => {
  await withCluster('slow', async (cluster) => {
    const first = cluster.network().step(iterations(LONG));
    expect((await errorOf(cluster.network().step(mlpInput()))).code).toBe('STEP_INPUTS');
    await first;
  });
});
