import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createRandomStream } from '#tandem/coordinator/pipeline/random.js';
import { GOLDENS, relativeError } from './helpers.js';

const numbers = z.array(z.number());
const goldens = z
  .array(z.object({ seed: z.number(), count: z.number(), first: numbers, last: numbers }))
  .parse(JSON.parse(readFileSync(join(GOLDENS, 'randn.json'), 'utf8')));

describe('seeded noise', () => {
  it.each(goldens)(
    'has the numbers of torch.randn for seed $seed and $count values',
    ({ seed, count, first, last }) => {
      const values = createRandomStream(seed).normal(count);
      expect(values).toHaveLength(count);
      expect(relativeError(values.subarray(0, first.length), first)).toBeLessThan(1e-5);
      expect(relativeError(values.subarray(-last.length), last)).toBeLessThan(1e-5);
    },
  );

  it('continues where it ended', () => {
    const stream = createRandomStream(5);
    const [first, second] = [stream.normal(16), stream.normal(16)];
    expect([...createRandomStream(5).normal(32)]).toEqual([...first, ...second]);
  });
});
