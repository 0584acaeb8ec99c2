/** One rank of a group: its worker process, with what is known of it. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { socketFiles, socketPath } from '../../shard-worker/endpoints.js';
import { processStart } from '../../shard-worker/processes.js';
import type { RegisteredWorker } from '../../shard-worker/registry.js';
import type { Seal } from '../../shard-worker/seal.js';
import type { Standing } from './orders.js';
import type { Runtime } from './runtime.js';
import type { WorkerInfo } from './types.js';
import { adoptWorker, type WorkerHandle } from './worker-handle.js';
import { born, found, type Health, isOver, loadedOf, newborn, type Wanted, type WorkerLife } from './worker-life.js';
import { WorkerProcess } from './worker-process.js';

export interface Member {
  readonly rank: number;
  /** Routing id under which the worker speaks. */
  readonly id: string;
  readonly process: WorkerHandle;
  readonly adopted: boolean;
  life: WorkerLife;
  health: Health;
  /** Where its exchange socket listens, once it has said so. */
  endpoint: string | undefined;
  /** Where its shared memory is, if it has some and has said so. */
  memory: string | undefined;
  /** Of which generation of the group its peers' addresses are. */
  generation: number | undefined;
  /** Steps finished. */
  steps: number;
  /** What a detached worker knows its coordinator by, once it has said what it wants to know. */
  seal: Seal | undefined;
}

/** What a group's workers are started with. */
export interface MemberOptions {
  readonly workerEntry: string;
  readonly control: string;
  /** Index is the rank. */
  readonly exchange: readonly string[];
  /** Whether workers exchange through shared memory. */
  readonly sharesMemory: boolean;
  /** Whether only this cluster's workers can have sockets there. */
  readonly privateSockets: boolean;
  /** Where workers that may outlive the coordinator are, and for how long. */
  readonly detached?: { readonly runtime: Runtime; readonly keepWarmMs: number };
}

const memberOf = (rank: number, id: string, process: WorkerHandle, life: WorkerLife): Member => ({
  rank,
  id,
  process,
  adopted: life.kind === 'attaching',
  life,
  health: newborn(performance.now()),
  endpoint: undefined,
  memory: undefined,
  generation: undefined,
  steps: 0,
  seal: undefined,
});

/** Starts a worker for a rank whose last worker, if there was one, has ended. */
export const startMember = (rank: number, options: MemberOptions): Member => {
  const { workerEntry: entry, control, sharesMemory, detached } = options;
  const exchange = options.exchange[rank] ?? '';
  const id = `${rank}-${randomBytes(16).toString('hex')}`;
  const process = new WorkerProcess({
    entry,
    rank,
    id,
    control,
    exchange,
    sharesMemory,
    ...(detached === undefined
      ? {}
      : {
          detached: {
            directory: detached.runtime.directory,
            keepWarmMs: detached.keepWarmMs,
            log: detached.runtime.log(rank),
          },
        }),
  });
  return memberOf(rank, id, process, born(performance.now()));
};

/** Takes over a worker that an earlier coordinator started. */
export const adoptMember = (worker: RegisteredWorker, runtime: Runtime, session: string, wanted: Wanted): Member => {
  const process = adoptWorker(worker.process, runtime.log(worker.rank));
  return memberOf(worker.rank, worker.id, process, found(performance.now(), session, wanted));
};

/** Removes the socket of a worker that was killed, so that the next one can listen there; never somebody else's. */
export const removeSocket = ({ rank, endpoint }: Member, { exchange, privateSockets }: MemberOptions): void => {
  const known = endpoint ?? (privateSockets ? (exchange[rank] ?? '') : '');
  for (const file of socketFiles(known)) rmSync(file, { force: true });
};

/** A lost worker's address is nobody's. */
export const standingOf = ({ rank, life, endpoint, memory, generation }: Member): Standing => ({
  rank,
  life,
  endpoint: isOver(life) ? undefined : endpoint,
  memory: isOver(life) ? undefined : memory,
  generation,
});

export const infoOf = (member: Member, restarts: number): WorkerInfo => {
  const { rank, process, life, health, steps, adopted } = member;
  const { weight_bytes, load_ms } = loadedOf(life) ?? { weight_bytes: 0, load_ms: 0 };
  const { pid } = process;
  return { rank, pid, state: life.kind, weight_bytes, load_ms, memory: health.memory, steps, adopted, restarts };
};

/** What the next coordinator must know of a worker; undefined where it has ended already. */
export const registrationOf = (member: Member, exchange: string): RegisteredWorker | undefined => {
  const { rank, id, process } = member;
  const started = processStart(process.pid);
  if (started === undefined) return undefined;
  return { rank, id, process: { pid: process.pid, started }, socket: socketPath(exchange) ?? '' };
};
