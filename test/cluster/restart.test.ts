import { describe, expect, it } from 'vitest';
import { isWhole, nextOrders, type Standing } from '#tandem/coordinator/cluster/orders.js';
import { backoff, Losses } from '#tandem/coordinator/cluster/restart.js';

const LOADED = { weight_bytes: 1, load_ms: 1 };
const standing = (rank: number, over: Partial<Standing>): Standing => ({
  rank,
  life: { kind: 'ready', loaded: LOADED },
  endpoint: `e${rank}`,
  memory: `m${rank}`,
  key: `k${rank}`,
  generation: 0,
  ...over,
});

describe('the orders of a group', () => {
  it('loads all once the last address is known, and not before', () => {
    const loading = [0, 1].map((rank) =>
      standing(rank, { life: { kind: 'loading', since: 0, exchangeEndpoint: '' }, generation: undefined }),
    );
    const [peers, memories, keys] = [
      ['e0', 'e1'],
      ['m0', 'm1'],
      ['k0', 'k1'],
    ];
    expect(nextOrders(loading, 0)).toEqual([0, 1].map((rank) => ({ rank, kind: 'load', peers, memories, keys })));
    const [first, second] = loading as [Standing, Standing];
    expect(nextOrders([first, { ...second, endpoint: undefined }], 0)).toEqual([]);
    expect(nextOrders([{ ...first, generation: 0 }, second], 0)).toEqual([
      { rank: 1, kind: 'load', peers, memories, keys },
    ]);
  });

  it('loads only the worker that was replaced, and gives its address to the others', () => {
    const group = [
      standing(0, { life: { kind: 'interrupted', loaded: LOADED } }),
      standing(1, { life: { kind: 'loading', since: 0, exchangeEndpoint: '' }, generation: undefined }),
      standing(2, {}),
    ];
    expect(nextOrders(group, 1).map(({ rank, kind }) => `${rank} ${kind}`)).toEqual(['0 reset', '1 load', '2 reset']);
  });

  it('resets nobody twice for the same change', () => {
    const group = [standing(0, { life: { kind: 'resetting', loaded: LOADED, generation: 1 }, generation: 1 })];
    expect(nextOrders(group, 1)).toEqual([]);
    expect(isWhole(group, 1)).toBe(false);
    expect(isWhole([standing(0, { generation: 1 })], 1)).toBe(true);
    expect(isWhole([standing(0, { generation: 1 })], 2)).toBe(false);
  });
});

describe('the restart policy', () => {
  it('doubles the wait up to the cap', () => {
    const policy = { maxAttempts: 9, backoffMs: 200, capMs: 1000 };
    expect([1, 2, 3, 4, 9].map((attempt) => backoff(policy, attempt))).toEqual([200, 400, 800, 1000, 1000]);
  });

  it('counts the losses of a rank since the last finished step', () => {
    const losses = new Losses();
    expect([losses.add(1, 0), losses.add(1, 1), losses.add(0, 2)]).toEqual([1, 2, 1]);
    losses.stepped();
    expect(losses.add(1, 3)).toBe(1);
  });

  it('forgives a loss after a minute of good health, though nobody asked for a step', () => {
    const losses = new Losses();
    losses.add(1, 0);
    losses.ready(1000);
    expect(losses.add(1, 30_000)).toBe(2);
    losses.ready(31_000);
    expect(losses.add(1, 92_000)).toBe(1);
  });
});
