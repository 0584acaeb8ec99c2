import { describe, expect, it } from 'vitest';
import { Turns } from '#tandem/coordinator/bench/turns.js';

describe('turns', () => {
  it('alternate, however long each takes', async () => {
    const turns = new Turns(3);
    const order: string[] = [];
    const runner = async (index: number, name: string, ms: number) => {
      for (let round = 0; round < 3; round++) {
        await turns.take(index, async () => {
          await new Promise((next) => setTimeout(next, ms));
          order.push(name);
        });
      }
    };
    await Promise.all([runner(2, 'C', 0), runner(0, 'A', 5), runner(1, 'B', 1)]);
    expect(order.join('')).toBe('ABCABCABC');
  });

  it('end for everyone when one fails, instead of waiting for ever', async () => {
    const turns = new Turns(2);
    const error = new Error('a worker died');
    const waiting = turns.take(1, async () => 'never');
    await expect(turns.take(0, () => Promise.reject(error))).rejects.toBe(error);
    await expect(waiting).rejects.toBe(error);
    await expect(turns.take(0, async () => 'never')).rejects.toBe(error);
  });
});
