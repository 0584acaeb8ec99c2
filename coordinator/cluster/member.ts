/** One rank of a group: its worker process, with what is known of it. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { socketFiles, socketPath } from '../../shard-worker/endpoints.js';
import type { KeyPair } from '../../shard-worker/keys.js';
import { processStart } from '../../shard-worker/processes.js';
import type { RegisteredWorker } from '../../shard-worker/runtime-files.js';
import type { Seal } from '../../shard-worker/seal.js';
import { type ControlServer, makeKeys } from '../../shard-worker/transport.js';
import type { Standing } from './orders.js';
import type { Runtime } from './runtime-directory.js';
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
  /** Where its exchange socket is to listen. */
  readonly exchange: string;
  /** Where its peers reach it, once it has said so. */
  endpoint: string | undefined;
  /** Its public key there, where that is a port and it has said so. */
  exchangeKey: string | undefined;
  /** Its key on the control socket, where that is a port. */
  readonly key: string | undefined;
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
  /** Where a worker of a rank, and no other one, listens for its peers. */
  readonly exchange: (rank: number) => string;
  /** Whether workers exchange through shared memory. */
  readonly sharesMemory: boolean;
  /** Whether only this cluster's workers can have sockets there. */
  readonly privateSockets: boolean;
  readonly server: Pick<ControlServer, 'admit' | 'dismiss'>;
  /** Starts a rank's worker on another host; undefined for a rank of this one. */
  readonly startElsewhere?: (rank: number, id: string) => WorkerHandle | undefined;
  /** Where workers that may outlive the coordinator are, and for how long. */
  readonly detached?: { readonly runtime: Runtime; readonly keepWarmMs: number };
}

type Beginning = Pick<Member, 'rank' | 'id' | 'process' | 'exchange' | 'life'> & { readonly key?: string };

const memberOf = (beginning: Beginning): Member => ({
  key: undefined,
  ...beginning,
  adopted: beginning.life.kind === 'attaching',
  health: newborn(performance.now()),
  endpoint: undefined,
  exchangeKey: undefined,
  memory: undefined,
  generation: undefined,
  steps: 0,
  seal: undefined,
});

type Started = Pick<Member, 'rank' | 'id' | 'exchange'> & { readonly keys: KeyPair };

const startProcess = (started: Started, options: MemberOptions): WorkerHandle => {
  const { workerEntry: entry, control, sharesMemory, detached } = options;
  const common = { ...started, entry, control, sharesMemory };
  if (detached === undefined) return new WorkerProcess(common);
  const { runtime, keepWarmMs } = detached;
  return new WorkerProcess({
    ...common,
    detached: { directory: runtime.directory, token: runtime.token, keepWarmMs, log: runtime.log(started.rank) },
  });
};

/** Starts a worker for a rank whose last worker, if there was one, has ended. */
export const startMember = (rank: number, options: MemberOptions): Member => {
  const id = `${rank}-${randomBytes(16).toString('hex')}`;
  const started = { rank, id, exchange: options.exchange(rank) };
  const elsewhere = options.startElsewhere?.(rank, id);
  if (elsewhere !== undefined) return memberOf({ ...started, process: elsewhere, life: born(performance.now()) });
  const keys = makeKeys();
  options.server.admit(keys.publicKey);
  const process = startProcess({ ...started, keys }, options);
  return memberOf({ ...started, process, life: born(performance.now()), key: keys.publicKey });
};

/** Takes over a worker that an earlier coordinator started. */
export const adoptMember = (worker: RegisteredWorker, runtime: Runtime, session: string, wanted: Wanted): Member => {
  const { rank, id, socket } = worker;
  const process = adoptWorker(worker.process, runtime.log(rank));
  return memberOf({ rank, id, process, exchange: `ipc://${socket}`, life: found(performance.now(), session, wanted) });
};

/** Removes the socket of a worker that was killed; never somebody else's. */
export const removeSocket = ({ exchange, endpoint, key }: Member, { privateSockets, server }: MemberOptions): void => {
  if (key !== undefined) server.dismiss(key);
  const known = endpoint ?? (privateSockets ? exchange : '');
  for (const file of socketFiles(known)) rmSync(file, { force: true });
};

/** A lost worker's address is nobody's. */
export const standingOf = ({ rank, life, endpoint, exchangeKey, memory, generation }: Member): Standing => ({
  rank,
  life,
  endpoint: isOver(life) ? undefined : endpoint,
  key: isOver(life) ? undefined : exchangeKey,
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
export const registrationOf = ({ rank, id, process, exchange }: Member): RegisteredWorker | undefined => {
  const started = processStart(process.pid);
  if (started === undefined) return undefined;
  return { rank, id, process: { pid: process.pid, started }, socket: socketPath(exchange) ?? '' };
};
