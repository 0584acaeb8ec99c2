/** Plans of published configurations, from real exports without weights: as good as the best split by hand. */
import { expect, it, vi } from 'vitest';
import { elementCount } from '#tandem/common/tensor.js';
import { plan } from '#tandem/partition/index.js';
import { REAL_MODELS } from '../fixtures/families.js';
import { graphOnly } from '../fixtures/materialise.js';
import { countSums, inDirectory } from '../partition/stages.js';

// A busy machine.
vi.setConfig({ testTimeout: 180_000 });

/** All-reduces outside of the blocks: embeddings of text, time and patches. */
const OUTSIDE = 4;
/** What is made of time and prompt as a whole (adaLN's scales and shifts) is smaller; all of it travels in one exchange. */
const TOKENS_ELEMENTS = 100_000;

/** 30 heads on 4 ranks do not come out even. */
const RANKS: Readonly<Record<string, number>> = { 'SD3.5 medium': 2, 'FLUX.1': 2, 'PixArt-Σ': 3, 'Z-Image-Turbo': 4 };

it.each(
  REAL_MODELS.flatMap((model) => (RANKS[model.name] ? [[model.name, RANKS[model.name] ?? 1, model] as const] : [])),
)(
  '%s on %i ranks is split almost wholly and sends no more often than by hand',
  async (_, worldSize, { skeleton, byHand }) => {
    const report = await inDirectory(async (directory) =>
      plan({
        model: { path: await graphOnly(skeleton, directory) },
        devices: Array.from({ length: worldSize }, () => ({ provider: 'cpu', deviceId: 0, speed: 1 })),
        dims: {},
        wire: 'fp16',
      }),
    );
    expect(report.sharded_weight_fraction).toBeGreaterThanOrEqual(0.95);
    expect(report.sharded_flop_fraction).toBeGreaterThanOrEqual(0.95);
    const large = report.collectives.filter(({ shape }) => elementCount(shape) >= TOKENS_ELEMENTS);
    expect(countSums({ collectives: large })).toBeLessThanOrEqual(byHand + OUTSIDE);
    expect(new Set(large.map(({ tensor }) => tensor)).size).toBeLessThanOrEqual(byHand + OUTSIDE);
    const whole = report.ranks.reduce((sum, { weight_bytes }) => sum + weight_bytes, 0);
    for (const { weight_bytes, flop_fraction } of report.ranks) {
      expect(weight_bytes).toBeLessThan((whole / worldSize) * 1.1);
      expect(flop_fraction).toBeLessThan(1.2 / worldSize);
    }
  },
);
