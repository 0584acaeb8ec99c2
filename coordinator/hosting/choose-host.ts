/**
 * Where a network beside the denoiser runs, as a pure function of what it needs and of what the devices have left: whole on
 * the rank with most room, or split over all ranks where it fits none. Without memory limits there is nothing to find room
 * for, and it runs in the coordinator.
 */
import { TandemError } from '../../common/errors.js';
import { formatBytes } from '../config/bytes.js';
import type { HostChoice } from '../config/index.js';

/** What a network, or several, need on one rank; bytes. */
export interface Need {
  readonly weights: number;
  /** Networks run one after the other, so of several only the largest counts. */
  readonly activations: number;
}

/** A device's memory and what runs on it already. */
export interface Budget {
  /** bytes; absent where it has none */
  readonly limit?: number;
  readonly taken: Need;
}

export type Host =
  | { readonly kind: 'coordinator' }
  | { readonly kind: 'rank'; readonly rank: number }
  | { readonly kind: 'shard' };

export interface Decision {
  readonly host: Host;
  /** Why, for people; with figures where there are any. */
  readonly reason: string;
}

export const NOTHING: Need = { weights: 0, activations: 0 };

/** What two needs come to on one rank. */
export const together = (a: Need, b: Need): Need => ({
  weights: a.weights + b.weights,
  activations: Math.max(a.activations, b.activations),
});

export const totalOf = ({ weights, activations }: Need): number => weights + activations;

/** bytes; infinite where the device has no limit */
export const roomOf = ({ limit = Number.POSITIVE_INFINITY, taken }: Budget): number =>
  Math.max(0, limit - totalOf(taken));

/** What a need adds to what is taken: the activations of what runs at other times are there already. */
export const added = ({ taken }: Budget, need: Need): number => totalOf(together(taken, need)) - totalOf(taken);

/** Whether a need fits a device beside what runs on it. */
export const fits = (budget: Budget, need: Need): boolean =>
  budget.limit === undefined || totalOf(together(budget.taken, need)) <= budget.limit;

const roomText = (budget: Budget): string =>
  budget.limit === undefined
    ? 'no memory_limit'
    : `${formatBytes(roomOf(budget))} of ${formatBytes(budget.limit)} left`;

/**
 * @param where `on rank 1`
 * @param needs by rank
 */
export const noRoom = (name: string, where: string, needs: readonly Need[], budgets: readonly Budget[]): TandemError =>
  new TandemError(
    'PLACEMENT_MEMORY',
    `Expected room for ${name} ${where}; there is too little. Raise memory_limit, add devices, or let it run in the coordinator's own process ("placement: { ${name}: coordinator }"):`,
    {
      problems: budgets.map(
        (budget, rank) =>
          `rank ${rank} has ${roomText(budget)}; ${name} takes ${formatBytes(added(budget, needs[rank] ?? NOTHING))} more for weights and activations`,
      ),
    },
  );

const chooseByRoom = (name: string, whole: readonly Need[], budgets: readonly Budget[]): Decision => {
  if (budgets.every(({ limit }) => limit === undefined))
    return { host: { kind: 'coordinator' }, reason: 'no device has a memory_limit' };
  const more = (rank: number, budget: Budget): number => added(budget, whole[rank] ?? NOTHING);
  const candidates = [...budgets.entries()].filter(([rank, budget]) => fits(budget, whole[rank] ?? NOTHING));
  const [best] = candidates.sort(([, a], [, b]) => (roomOf(a) === roomOf(b) ? 0 : roomOf(b) - roomOf(a)));
  if (best !== undefined) {
    const [rank, budget] = best;
    const reason = `most room: ${roomText(budget)}, of which it takes ${formatBytes(more(rank, budget))}`;
    return { host: { kind: 'rank', rank }, reason };
  }
  if (budgets.length === 1) throw noRoom(name, 'on the one device', whole, budgets);
  const most = Math.max(...budgets.map(roomOf));
  const least = Math.min(...budgets.map((budget, rank) => more(rank, budget)));
  const reason = `no rank has room for all of it: it takes ${formatBytes(least)}, and at most ${formatBytes(most)} are left`;
  return { host: { kind: 'shard' }, reason };
};

const asTold = (host: Host): Decision => ({ host, reason: 'the config says so' });

/**
 * Decides where a network runs.
 * @param name for messages
 * @param whole what it needs whole, by rank
 * @throws TandemError `PLACEMENT_MEMORY` with the figures of every rank where there is no room
 */
export const chooseHost = (
  name: string,
  asked: HostChoice,
  whole: readonly Need[],
  budgets: readonly Budget[],
): Decision => {
  switch (asked) {
    case 'coordinator':
    case 'shard':
      return asTold({ kind: asked });
    case 'auto':
      return chooseByRoom(name, whole, budgets);
    default: {
      const { rank } = asked;
      const budget = budgets[rank];
      if (budget === undefined || !fits(budget, whole[rank] ?? NOTHING))
        throw noRoom(name, `on rank ${rank}`, whole, budgets);
      return asTold({ kind: 'rank', rank });
    }
  }
};
