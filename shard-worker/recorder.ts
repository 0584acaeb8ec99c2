/**
 * What a rank does in a step, and when, for a trace. Times are those of the machine's monotonic clock, which all its processes share, so
 * that the ranks' lines stand under each other.
 */

/**
 * `segment`: computing; `send`: what a segment has made goes to the peers; `receive`: what has come goes where it is read; `wait`: nothing
 * can go on; `inputs` and `outputs`: copying those of the step.
 */
export const ACTIVITIES = ['inputs', 'segment', 'send', 'receive', 'wait', 'outputs'] as const;
export type Activity = (typeof ACTIVITIES)[number];

export interface TraceEvent {
  readonly activity: Activity;
  /** Which of the micro-batches under way at once; absent while all wait. */
  readonly lane?: number;
  /** In the rank's program. */
  readonly segment?: number;
  /** µs */
  readonly start: number;
  readonly duration: number;
}

const US = 1000;
const clockOffset = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** Now, in µs of the machine's clock. */
export const machineTime = (): number => (clockOffset + performance.now()) * US;

export class Recorder {
  readonly events: TraceEvent[] = [];

  /** Something has gone on from `start`, as `machineTime` gave it, until now. */
  add(activity: Activity, start: number, where: Pick<TraceEvent, 'lane' | 'segment'> = {}): void {
    this.events.push({ activity, ...where, start, duration: machineTime() - start });
  }
}
