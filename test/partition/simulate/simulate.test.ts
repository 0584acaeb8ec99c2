/** The simulation of a step: by hand where that is easy, and by its own laws. */
import { describe, expect, it } from 'vitest';
import { findLink, requireLink } from '#tandem/partition/simulate/links.js';
import { type SimulatedStep, simulateStep } from '#tandem/partition/simulate/simulate.js';

const LINK = { latencyMs: 1, wireBytesPerMs: 100 };

/** Ranks that compute these times, segment by segment, and send all others so many bytes after each but the last. */
const allToAll = (times: readonly (readonly number[])[], bytes: number, more: Partial<SimulatedStep> = {}) =>
  simulateStep({
    ranks: times.map((segments, rank) =>
      segments.map((computeMs, segment) => ({
        computeMs,
        sends: times.map((_, to) => (to === rank || segment === segments.length - 1 ? 0 : bytes)),
      })),
    ),
    links: times.map(() => LINK),
    microBatches: 1,
    controlMs: 0,
    ...more,
  });

describe('a simulated step', () => {
  it('of one rank takes what its segments and the way to it take', () => {
    expect(allToAll([[3, 4]], 500, { controlMs: 2 })).toEqual({ stepMs: 9, computeMs: 7, waitMs: 0, linkMs: 0 });
  });

  it('waits for the last rank, its bytes and the latency', () => {
    // Rank 1 ends at 5, its 200 bytes are there at 8; both compute 2 more.
    expect(
      allToAll(
        [
          [3, 2],
          [5, 2],
        ],
        200,
      ),
    ).toEqual({ stepMs: 10, computeMs: 7, waitMs: 5, linkMs: 2 });
  });

  it('sends one thing after the other over a link', () => {
    // To two others, 200 bytes each: the second one arrives at 1 + 4 + 1.
    expect(
      allToAll(
        [
          [1, 1],
          [1, 1],
          [1, 1],
        ],
        200,
      ).stepMs,
    ).toBe(7);
  });

  it('hides an exchange behind the other micro-batch', () => {
    const alone = allToAll(
      [
        [5, 5, 5],
        [5, 5, 5],
      ],
      200,
    );
    const both = allToAll(
      [
        [5, 5, 5],
        [5, 5, 5],
      ],
      200,
      { microBatches: 2 },
    );
    expect(alone.stepMs).toBe(15 + 2 * 3);
    expect(both.stepMs).toBe(30);
    expect(
      allToAll(
        [
          [5, 5, 5],
          [5, 5, 5],
        ],
        200,
        { microBatches: 3 },
      ).stepMs,
    ).toBeLessThan(30 + alone.stepMs + 1);
  });

  it('takes no longer over a faster link, and no less than its slowest rank computes', () => {
    const times = [
      [4, 1, 6, 2],
      [2, 5, 3, 3],
      [3, 3, 3, 3],
    ];
    const over = (wireBytesPerMs: number) =>
      allToAll(times, 1000, { links: times.map(() => ({ latencyMs: 0.5, wireBytesPerMs })) }).stepMs;
    const steps = [10, 100, 1000, 1e6].map(over);
    expect(steps.toSorted((a, b) => b - a)).toEqual(steps);
    // In each segment the slowest counts.
    expect(over(1e12)).toBeCloseTo(4 + 5 + 6 + 3 + 3 * 0.5, 6);
  });
});

describe('a link', () => {
  it('is known by the name of a transport or the speed of a network', () => {
    expect(findLink('10gbit')?.wireBytesPerMs).toBeCloseTo(1.175e6, 0);
    expect(requireLink('pcie').latencyMs).toBeLessThan(requireLink('tcp').latencyMs);
    expect(() => requireLink('carrier-pigeon')).toThrowError(expect.objectContaining({ code: 'LINK_UNKNOWN' }));
    expect(findLink('0gbit')).toBeUndefined();
  });
});
