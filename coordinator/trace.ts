/**
 * Where the time of steps goes, as a file in Chrome's trace format, which https://ui.perfetto.dev and chrome://tracing open. A line for
 * each rank, in which a segment, a wait or a copy is a bar, and one for the coordinator with the steps as it sees them; all on the same
 * clock. The format: "Trace Event Format", Google, 2016.
 */
import { writeFile } from 'node:fs/promises';
import type { TraceEvent } from '../shard-worker/recorder.js';
import type { StepTrace } from './hooks.js';

/** A server runs for days: of more steps only the last ones are kept. */
const MOST_STEPS = 500;

/** A complete event (`X`) or a name (`M`), in µs. */
interface ChromeEvent {
  readonly name: string;
  readonly ph: 'X' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

const nameOf = ({ activity, segment }: TraceEvent): string =>
  segment === undefined ? activity : `${activity} ${segment}`;

export class Trace {
  readonly #path: string;
  #steps: readonly StepTrace[] = [];
  readonly #groups = new Map<string, number>();

  constructor(path: string) {
    this.#path = path;
  }

  readonly add = (step: StepTrace): void => {
    this.#steps = [...this.#steps.slice(1 - MOST_STEPS), step];
  };

  async write(): Promise<void> {
    const steps = this.#steps.flatMap((step) => this.#eventsOf(step));
    const names = [...this.#groups].map(
      ([name, pid]): ChromeEvent => ({ name: 'process_name', ph: 'M', pid, tid: 0, args: { name } }),
    );
    const text = JSON.stringify({ displayTimeUnit: 'ms', traceEvents: [...names, ...steps] });
    await writeFile(this.#path, text);
  }

  #pid(name: string): number {
    const pid = this.#groups.get(name) ?? this.#groups.size + 1;
    this.#groups.set(name, pid);
    return pid;
  }

  #eventsOf({ group, network, start, duration, ranks }: StepTrace): readonly ChromeEvent[] {
    const place = { ph: 'X', tid: 0 } as const;
    const step = {
      ...place,
      name: `step of ${network}`,
      pid: this.#pid(`${group} coordinator`),
      ts: start,
      dur: duration,
    };
    const inRanks = ranks.flatMap(({ rank, events }) => {
      const pid = this.#pid(`${group} rank ${rank}`);
      return events.map((event) => ({
        ...{ ...place, name: nameOf(event), pid, ts: event.start, dur: event.duration },
        ...(event.lane === undefined ? {} : { args: { lane: event.lane } }),
      }));
    });
    return [step, ...inRanks];
  }
}
