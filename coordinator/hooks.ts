/** How long-running functions tell their caller what they do, and how the caller stops them. */
import { TandemError } from '../common/errors.js';
import type { TraceEvent } from '../shard-worker/recorder.js';

/** What the ranks did in a step; times in µs of the machine's clock. */
export interface StepTrace {
  /** Which workers, where there are several groups. */
  readonly group: string;
  readonly network: string;
  /** As the coordinator saw it. */
  readonly start: number;
  readonly duration: number;
  readonly ranks: readonly { readonly rank: number; readonly events: readonly TraceEvent[] }[];
}

export interface Hooks {
  /** `done` of `total` in the stage's own unit (bytes, segments, steps). */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
  /** A sentence worth telling once: what is reused, what is made again and why. */
  readonly onNotice?: (message: string) => void;
  /** Stops the work within one step; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Told what the ranks did in every step, which costs a little of each. */
  readonly onStepTrace?: (step: StepTrace) => void;
}

export const cancelled = (): TandemError => new TandemError('CANCELLED', 'Cancelled.');

/** The reason of a stop that leaves time to finish what was begun (SIGTERM), where `cancelled` leaves none (Ctrl-C). */
export const terminated = (): TandemError => new TandemError('TERMINATED', 'Terminated.');

export const isTerminated = (signal: AbortSignal): boolean =>
  signal.reason instanceof TandemError && signal.reason.code === 'TERMINATED';

/** Throws the signal's reason where it is aborted. */
export const checkCancelled = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw signal.reason instanceof Error ? signal.reason : cancelled();
};
