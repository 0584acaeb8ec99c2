/** Where a network is placed, by what it takes and what the devices have left. */
import { describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { type Budget, chooseHost, type Need } from '#tandem/coordinator/hosting/choose-host.js';

const MIB = 2 ** 20;
const need = (weights: number, activations = 0): Need => ({
  weights: weights * MIB,
  activations: activations * MIB,
});
const device = (limit: number | undefined, taken = need(0)): Budget => ({
  ...(limit === undefined ? {} : { limit: limit * MIB }),
  taken,
});
/** As if every device needed the same. */
const everywhere = (one: Need, budgets: readonly Budget[]): readonly Need[] => budgets.map(() => one);

const auto = (one: Need, ...budgets: readonly Budget[]) =>
  chooseHost('text_encoder', 'auto', everywhere(one, budgets), budgets);

const refusal = (work: () => unknown): TandemError => {
  try {
    work();
  } catch (error) {
    if (error instanceof TandemError) return error;
  }
  throw new Error('Expected a TandemError.');
};

describe('a network whose place is left open', () => {
  it('stays in the coordinator where no device has a limit, as nothing is known of their room', () => {
    expect(auto(need(1), device(undefined), device(undefined))).toEqual({
      host: { kind: 'coordinator' },
      reason: 'no device has a memory_limit',
    });
  });

  it('goes whole to the rank with most room left, not to the one with most memory', () => {
    const { host, reason } = auto(need(20), device(100, need(70)), device(80, need(30)));
    expect(host).toEqual({ kind: 'rank', rank: 1 });
    expect(reason).toBe('most room: 50.0 MiB of 80.0 MiB left, of which it takes 20.0 MiB');
  });

  it('goes to a device without a limit before all others, and to the first of equals', () => {
    expect(auto(need(1), device(100), device(undefined)).host).toEqual({ kind: 'rank', rank: 1 });
    expect(auto(need(1), device(100), device(100)).host).toEqual({ kind: 'rank', rank: 0 });
  });

  it('shares the room for activations with networks that run at other times', () => {
    // 40 of weights and 50 of activations: 90 alone, but only 10 more than the 50 that the denoiser's activations have.
    const taken = need(30, 50);
    expect(auto(need(10, 50), device(90, taken), device(80, taken)).host).toEqual({ kind: 'rank', rank: 0 });
    expect(auto(need(10, 51), device(90, taken), device(80, taken)).host).toEqual({ kind: 'shard' });
  });

  it('is split where it is more than any rank has left, and told with both figures', () => {
    const { host, reason } = auto(need(60), device(100, need(50)), device(100, need(45)));
    expect(host).toEqual({ kind: 'shard' });
    expect(reason).toBe('no rank has room for all of it: it takes 60.0 MiB, and at most 55.0 MiB are left');
  });

  it('is refused with the figures where there is one device and no room', () => {
    const error = refusal(() => auto(need(60), device(100, need(50))));
    expect(error.code).toBe('PLACEMENT_MEMORY');
    expect(error.message).toMatch(
      /room for text_encoder on the one device.*"placement: \{ text_encoder: coordinator \}"/,
    );
    expect(error.problems).toEqual([
      'rank 0 has 50.0 MiB of 100 MiB left; text_encoder takes 60.0 MiB more for weights and activations',
    ]);
  });
});

describe('a network whose place the config names', () => {
  const budgets = [device(100, need(50)), device(100, need(90))];
  const hostOf = (asked: Parameters<typeof chooseHost>[1], one = need(20)) =>
    chooseHost('vae_decoder', asked, everywhere(one, budgets), budgets);

  it('goes there, whatever has more room', () => {
    expect(hostOf('coordinator').host).toEqual({ kind: 'coordinator' });
    expect(hostOf('shard').host).toEqual({ kind: 'shard' });
    expect(hostOf({ rank: 0 })).toEqual({ host: { kind: 'rank', rank: 0 }, reason: 'the config says so' });
    expect(hostOf({ rank: 1 }, need(10)).host).toEqual({ kind: 'rank', rank: 1 });
  });

  it('is refused where that rank is full, with the figures of all', () => {
    const error = refusal(() => hostOf({ rank: 1 }));
    expect(error.code).toBe('PLACEMENT_MEMORY');
    expect(error.message).toMatch(/room for vae_decoder on rank 1/);
    expect(error.problems).toHaveLength(2);
    expect(error.problems[1]).toBe(
      'rank 1 has 10.0 MiB of 100 MiB left; vae_decoder takes 20.0 MiB more for weights and activations',
    );
  });
});
