/** How long-running functions tell their caller what they do, and how the caller stops them. */
import { TandemError } from '../common/errors.js';

export interface Hooks {
  /** `done` of `total` in the stage's own unit (bytes, segments, steps). */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
  /** A sentence worth telling once: what is reused, what is made again and why. */
  readonly onNotice?: (message: string) => void;
  /** Stops the work within one step; its reason is thrown. */
  readonly signal?: AbortSignal;
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
