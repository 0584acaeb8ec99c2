/** What can go wrong with a worker, as the coordinator tells it. Every message names the rank. */
import { toErrorCode } from '../../common/error-codes.js';
import { TandemError } from '../../common/errors.js';
import type { Problem } from '../../shard-worker/protocol.js';

/** How many different outputs the ranks of a step ended with. */
export const differentOutputs = (ranks: readonly { readonly outputs_sha256: string }[]): number =>
  new Set(ranks.map(({ outputs_sha256 }) => outputs_sha256)).size;

/** Replicas that have drifted apart: the picture would be wrong. */
export const ranksDisagree = (ranks: readonly { readonly outputs_sha256: string }[]): TandemError =>
  new TandemError(
    'RANKS_DISAGREE',
    `Expected the same outputs from all ${ranks.length} ranks after a step; found ${differentOutputs(ranks)} different ones, twice. Weights or a device's memory have changed: start the workers again, which checks the weights.`,
  );

/** How a process ended; both are null when it could not be started. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Of a process that another one had started: the system tells only that it has ended. */
  readonly unknown?: true;
  /** The host that was lost, and the process with it. */
  readonly host?: string;
}

const howEnded = ({ code, signal, unknown, host }: Exit): string => {
  if (host !== undefined) return `was lost with host "${host}"`;
  if (unknown) return 'ended';
  if (signal !== null) return `was killed by ${signal}`;
  return code === null ? 'could not be started' : `exited with code ${code}`;
};

const lastWords = (stderr: readonly string[]): string =>
  stderr.length === 0 ? '' : ` Its last output: ${stderr.join(' | ')}`;

/** The process ended before it said hello. */
export const workerNotStarted = (rank: number, exit: Exit, stderr: readonly string[]): TandemError =>
  new TandemError(
    'WORKER_START',
    `The worker of rank ${rank} ${howEnded(exit)} before it was ready to load.${lastWords(stderr)}`,
    {
      problems: stderr,
    },
  );

/** The process ended although nobody asked it to. */
export const workerDied = (rank: number, exit: Exit, stderr: readonly string[]): TandemError =>
  new TandemError(
    'WORKER_DIED',
    `The worker of rank ${rank} ${howEnded(exit)}. If the system ran out of memory, give this rank fewer weights or a larger device.${lastWords(stderr)}`,
    { problems: stderr },
  );

/** The process is there but did not say hello in time. */
export const workerStartTimeout = (rank: number, startMs: number): TandemError =>
  new TandemError(
    'WORKER_START',
    `The worker of rank ${rank} did not report within ${startMs} ms of its start; raise the start timeout on a slow machine.`,
  );

/** No answer to pings. */
export const workerUnresponsive = (rank: number, silentMs: number): TandemError =>
  new TandemError(
    'WORKER_UNRESPONSIVE',
    `The worker of rank ${rank} has not answered for ${Math.round(silentMs)} ms; it is stopped or its machine is overloaded.`,
  );

/** It answers, but nothing gets done. */
export const workerStalled = (rank: number, doing: string, stalledMs: number, remedy: string): TandemError =>
  new TandemError(
    'WORKER_STALLED',
    `The worker of rank ${rank} made no progress in ${doing} for ${Math.round(stalledMs)} ms; ${remedy}.`,
  );

/** The worker said what went wrong; its own error is the cause. */
export const workerFailed = (rank: number, problem: Problem): TandemError => {
  const cause = new TandemError(toErrorCode(problem.code), problem.message, { problems: problem.problems });
  return new TandemError('WORKER_FAILED', `The worker of rank ${rank} failed (${problem.code}): ${problem.message}`, {
    problems: problem.problems,
    cause,
  });
};

/** The worker sent something that does not fit its state, or is no message at all. */
export const workerOutOfTurn = (rank: number, message: string, state: string): TandemError =>
  new TandemError(
    'WORKER_FAILED',
    `The worker of rank ${rank} sent "${message}" while it was ${state}; run the same Tandem version on both sides.`,
  );

/** A worker of an earlier coordinator that is not what this one needs. */
export const workerNotAdopted = (rank: number, why: string): TandemError =>
  new TandemError('WORKER_NOT_ADOPTED', `The worker of rank ${rank} that an earlier coordinator left behind ${why}.`);

const DAMAGE: ReadonlySet<string> = new Set([
  'SHARD_FILES',
  'SHARD_DIRECTORY_MISSING',
  'SHARD_DIRECTORY_INVALID',
  'SHARD_MANIFEST_INVALID',
]);

/** Whether a worker was lost because its files are not what was prepared. */
export const isDamage = ({ cause }: TandemError): boolean => cause instanceof TandemError && DAMAGE.has(cause.code);

export const workerNotReplaced = (rank: number, cause: unknown): TandemError => {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new TandemError('WORKER_START', `The worker of rank ${rank} could not be started again: ${why}`, { cause });
};

/** Restarting does not help. */
export const restartsExhausted = (rank: number, lost: number, allowed: number, last: TandemError): TandemError =>
  new TandemError(
    'CLUSTER_RESTARTS',
    `The worker of rank ${rank} was lost ${lost} times without a finished step in between, and ${allowed} restarts are allowed; mend the cause and launch again. Last: ${last.message}`,
    { problems: last.problems, cause: last },
  );

/** Two coordinators cannot command the same workers. */
export const clusterInUse = (directory: string, pid: number | undefined): TandemError =>
  new TandemError(
    'CLUSTER_IN_USE',
    `Expected no other coordinator of the workers in "${directory}", but ${pid === undefined ? 'another process' : `process ${pid}`} commands them; use it, or stop it first.`,
  );

/** Only a file's place outlives its coordinator. */
export const detachedTransport = (): TandemError =>
  new TandemError(
    'DETACHED_TRANSPORT',
    'Workers that outlive their coordinator are found again by their socket files, which "tcp" has not; choose another transport, or set workers.keep_warm_s to 0 for tcp.',
  );

/** @param why as a clause */
export const sharedMemoryUnavailable = (why: string): TandemError =>
  new TandemError(
    'SHARED_MEMORY_UNAVAILABLE',
    `Expected shared memory between workers, as wire.transport asks for; ${why}. Use "auto", "ipc" or "tcp" here.`,
  );

export const clusterClosed = (): TandemError =>
  new TandemError('CLUSTER_CLOSED', 'The cluster is closed; launch a new one.');

/** A step on a cluster that lost a worker. */
export const clusterFailed = (failure: TandemError): TandemError =>
  new TandemError(
    'CLUSTER_FAILED',
    `The cluster has failed and cannot step; launch a new one. First failure: ${failure.message}`,
    {
      problems: failure.problems,
      cause: failure,
    },
  );
