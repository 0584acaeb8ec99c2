/** What the workers of a group are told next, as a pure function of where they stand. */
import type { WorkerLife } from './worker-life.js';

/** What decides over a worker's next order. */
export interface Standing {
  readonly rank: number;
  readonly life: WorkerLife;
  /** Its exchange socket; undefined until it is known, and once the worker is lost. */
  readonly endpoint: string | undefined;
  /** Its public key there, where that is a port. */
  readonly key: string | undefined;
  /** Its shared memory, where the group exchanges through that. */
  readonly memory: string | undefined;
  /** Of which generation of the group its peers' addresses are; undefined while it has none. */
  readonly generation: number | undefined;
}

export interface Order {
  readonly kind: 'load' | 'reset';
  readonly rank: number;
  readonly peers: readonly string[];
  /** Empty where the group exchanges over sockets. */
  readonly memories: readonly string[];
  /** Empty where sockets are files. */
  readonly keys: readonly string[];
}

const orderKind = ({ life, generation }: Standing, current: number): Order['kind'] | undefined => {
  switch (life.kind) {
    case 'loading':
      return generation === undefined ? 'load' : undefined;
    case 'ready':
    case 'interrupted':
      return generation === current ? undefined : 'reset';
    case 'starting':
    case 'attaching':
    case 'stepping':
    case 'resetting':
    case 'failed':
    case 'closed':
      return undefined;
    default:
      return life satisfies never;
  }
};

/** The orders that are due: none before every worker's address is known, as each needs all of them. */
export const nextOrders = (standings: readonly Standing[], generation: number): readonly Order[] => {
  const peers = standings.flatMap(({ endpoint }) => endpoint ?? []);
  const memories = standings.flatMap(({ memory }) => memory ?? []);
  const keys = standings.flatMap(({ key }) => key ?? []);
  if (peers.length < standings.length) return [];
  return standings.flatMap((standing): readonly Order[] => {
    const kind = orderKind(standing, generation);
    return kind === undefined ? [] : [{ rank: standing.rank, kind, peers, memories, keys }];
  });
};

/** Whether every worker is loaded, connected to all others as they are now, and idle. */
export const isWhole = (standings: readonly Standing[], generation: number): boolean =>
  standings.every((standing) => standing.life.kind === 'ready' && standing.generation === generation);
