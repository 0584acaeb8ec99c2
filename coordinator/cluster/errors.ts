/** What can go wrong with a worker, as the coordinator tells it. Every message names the rank. */
import { TandemError } from '../../partition/errors.js';
import type { Problem } from '../../shard-worker/protocol.js';

/** How a process ended; both are null when it could not be started. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const howEnded = ({ code, signal }: Exit): string => {
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
    `The worker of rank ${rank} ${howEnded(exit)}; all workers were stopped. If the system ran out of memory, give this rank fewer weights or a larger device.${lastWords(stderr)}`,
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
    `The worker of rank ${rank} has not answered for ${Math.round(silentMs)} ms; it is stopped or its machine is overloaded. All workers were stopped.`,
  );

/** It answers, but nothing gets done. */
export const workerStalled = (rank: number, doing: string, stalledMs: number, remedy: string): TandemError =>
  new TandemError(
    'WORKER_STALLED',
    `The worker of rank ${rank} made no progress in ${doing} for ${Math.round(stalledMs)} ms; ${remedy}.`,
  );

/** The worker said what went wrong; its own error is the cause. */
export const workerFailed = (rank: number, problem: Problem): TandemError => {
  const cause = new TandemError(problem.code, problem.message, { problems: problem.problems });
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
