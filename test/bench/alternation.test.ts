import { describe, expect, it } from 'vitest';
import { Alternation } from '#tandem/coordinator/bench/alternation.js';

describe('turns', () => {
  it('alternate, however long each takes', async () => {
    const alternation = new Alternation(3);
    const order: string[] = [];
    const runner = async (index: number, name: string, ms: number) => {
      for (let round = 0; round < 3; round++) {
        await alternation.take(index, async () => {
          await new Promise((next) => setTimeout(next, ms));
          order.push(name);
        });
      }
    };
    await Promise.all([runner(2, 'C', 0), runner(0, 'A', 5), runner(1, 'B', 1)]);
    expect(order.join('')).toBe('ABCABCABC');
  });

  it('end for everyone when one fails, instead of waiting for ever', async () => {
    const alternation = new Alternation(2);
    const error = new Error('a worker died');
    const waiting = alternation.take(1, async () => 'never');
    await expect(alternation.take(0, () => Promise.reject(error))).rejects.toBe(error);
    await expect(waiting).rejects.toBe(error);
    await expect(alternation.take(0, async () => 'never')).rejects.toBe(error);
  });
});
