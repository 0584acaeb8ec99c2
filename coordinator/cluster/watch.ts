/** When a worker that says nothing, or gets nothing done, counts as lost. Pure: the clock is an argument. */
import type { TandemError } from '../../common/errors.js';
import { workerStalled, workerStartTimeout, workerUnresponsive } from './errors.js';
import { type Health, isOver, type WorkerLife } from './worker-life.js';

/** Every wait has an end; all in ms. */
export interface Timeouts {
  /** From a process's start to its first message. */
  readonly startMs: number;
  /** From there until its segments are open. */
  readonly loadMs: number;
  /** Longest time without progress within a step. */
  readonly stepMs: number;
  /** Longest silence. */
  readonly heartbeatMs: number;
}

/** How often workers are pinged, in ms: several pings may be lost or late before silence counts. */
export const pingInterval = (timeouts: Timeouts): number => Math.max(20, Math.min(250, timeouts.heartbeatMs / 6));

/** Longer than a debugger or a person who means to go on at once; ms. */
const STOPPED_MS = 200;

/** The error of a worker that is overdue at `now`; undefined while all is well. */
export const overdue = (
  rank: number,
  life: WorkerLife,
  health: Health,
  timeouts: Timeouts,
  now: number,
): TandemError | undefined => {
  const { stoppedAt } = health;
  // A stopped process is seen as such, so that a busy one may take its time.
  if (stoppedAt !== undefined && now - stoppedAt >= STOPPED_MS && !isOver(life))
    return workerUnresponsive(rank, now - stoppedAt);
  switch (life.kind) {
    case 'starting':
      return now - life.since > timeouts.startMs ? workerStartTimeout(rank, timeouts.startMs) : undefined;
    case 'loading':
      return silent(rank, health, timeouts, now) ?? loadStalled(rank, life.since, timeouts, now);
    case 'attaching':
      return now - life.since > timeouts.heartbeatMs ? workerUnresponsive(rank, now - life.since) : undefined;
    case 'ready':
    case 'interrupted':
      return silent(rank, health, timeouts, now);
    case 'stepping':
    case 'resetting':
      return silent(rank, health, timeouts, now) ?? stepStalled(rank, health, timeouts, now);
    case 'failed':
    case 'closed':
      return undefined;
    default:
      return life satisfies never;
  }
};

const silent = (rank: number, health: Health, timeouts: Timeouts, now: number): TandemError | undefined =>
  now - health.heardAt > timeouts.heartbeatMs ? workerUnresponsive(rank, now - health.heardAt) : undefined;

const loadStalled = (rank: number, since: number, timeouts: Timeouts, now: number): TandemError | undefined =>
  now - since > timeouts.loadMs
    ? workerStalled(rank, 'loading', now - since, 'raise the load timeout if its device or disk is slow')
    : undefined;

// A rank that waits for a peer is not to blame: the peer is.
const stepStalled = (rank: number, health: Health, timeouts: Timeouts, now: number): TandemError | undefined =>
  health.awaiting.length === 0 && now - health.progressAt > timeouts.stepMs
    ? workerStalled(rank, 'a step', now - health.progressAt, 'raise the step timeout if a segment takes that long')
    : undefined;

/**
 * Moves a worker's times forward by a pause of the coordinator itself (its own event loop blocked, or its process
 * stopped and continued): answers that waited unread are not silence.
 */
export const excusePause = (health: Health, pauseMs: number): Health => ({
  ...health,
  heardAt: health.heardAt + pauseMs,
  progressAt: health.progressAt + pauseMs,
  stoppedAt: undefined,
});
