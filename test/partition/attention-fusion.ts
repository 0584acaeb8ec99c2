/** What fusing attention makes of an export's, by the number of its tokens. */
import { describe, expect, it } from 'vitest';
import { fuseAttention } from '#tandem/partition/segments/fuse-attention.js';
import { type Program, peakBytes, withGraphs } from '#tandem/partition/segments/rank-program.js';
import { planGraph, readFixture } from './stages.js';

const LARGE = { batch_size: 1, height: 64, width: 64, sequence_length: 16 };
const SMALL = { ...LARGE, height: 16, width: 16 };

const programsOf = async (name: string, dims: typeof LARGE) =>
  planGraph(await readFixture(name, dims), [1, 1], 'fp32', { fuseAttention: false }).programs;

const fuse = (programs: readonly Program[]): readonly Program[] =>
  programs.map((program) => withGraphs(program, fuseAttention));

const countOps = (programs: readonly Program[], op: string): number =>
  programs.flatMap(({ segments }) => segments.flatMap(({ graph }) => graph.nodes.filter((node) => node.op === op)))
    .length;

const peak = (programs: readonly Program[]): number => Math.max(...programs.map(peakBytes));

export const describeFusion = (...names: readonly string[]): void => {
  describe.each(names)('attention of %s', (name) => {
    it('over 4,096 tokens is one node, and the scores are never held', async () => {
      const plain = await programsOf(name, LARGE);
      const fused = fuse(plain);
      const count = countOps(fused, 'MultiHeadAttention');
      expect(count).toBeGreaterThan(0);
      expect(countOps(plain, 'MultiHeadAttention')).toBe(0);
      expect(countOps(fused, 'Softmax')).toBe(countOps(plain, 'Softmax') - count);
      expect(countOps(fused, 'MatMul')).toBe(countOps(plain, 'MatMul') - 2 * count);
      expect(countOps(fused, 'Mul'), 'no scaling is left over').toBeLessThanOrEqual(countOps(plain, 'Mul'));
      expect(peak(fused)).toBeLessThan(peak(plain) / 2);
    });

    it('over 256 tokens stays as it was exported', async () => {
      expect(countOps(fuse(await programsOf(name, SMALL)), 'MultiHeadAttention')).toBe(0);
    });
  });
};
