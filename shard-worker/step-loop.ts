/**
 * A step in the compute thread, from its inputs to its outputs: `run segment, exchange, run segment, ...`. The micro-batches of a step
 * go through the program in lanes, each by itself, so that one computes while another's tensors travel (dual batch overlap).
 */
import { TandemError } from '../common/errors.js';
import { stepAbandoned } from './abandoned.js';
import type { BoundProgram, BoundSegment } from './bound-program.js';
import type { StepDone, StepTask, Tensors } from './compute-protocol.js';
import { outOfMemory } from './device-memory.js';
import { LANES, type Lane, type Link } from './link.js';
import { type Activity, machineTime, Recorder, type TraceEvent } from './recorder.js';
import type { ThreadStatus } from './thread-status.js';

/** A lane and the network's program as it lies in the lane's memory. */
export interface BoundLane {
  readonly lane: Lane;
  readonly program: BoundProgram;
}

export interface StepContext {
  readonly link: Link;
  readonly status: ThreadStatus;
  /** Called for each lane that a step needs. */
  readonly bind: (lane: number) => BoundLane;
}

interface RunContext extends StepContext {
  readonly timed: Timed;
  readonly recorder?: Recorder;
}

const copyOf = (tensors: Tensors): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]));

/** Does something, and notes when. */
type Timed = <T>(activity: Activity, work: () => T, where?: Pick<TraceEvent, 'lane' | 'segment'>) => T;

const timedBy = (recorder: Recorder | undefined): Timed => {
  if (recorder === undefined) return (_, work) => work();
  return (activity, work, where) => {
    const start = machineTime();
    const done = work();
    recorder.add(activity, start, where);
    return done;
  };
};

/** The micro-batches of a step that share a lane, one after the other. */
class LaneRun {
  readonly #index: number;
  readonly #bound: BoundLane;
  readonly #task: StepTask;
  readonly #context: RunContext;
  readonly outputs = new Map<number, Tensors>();
  #microBatch: number;
  /** Index of the next segment; undefined before the micro-batch begins. */
  #next: number | undefined;
  computeMs = 0;
  sentBytes = 0;
  copiedBytes = 0;

  constructor(index: number, task: StepTask, context: RunContext) {
    this.#index = index;
    this.#bound = context.bind(index);
    this.#task = task;
    this.#context = context;
    this.#microBatch = index;
  }

  get isOver(): boolean {
    return this.#microBatch >= this.#task.microBatches.length;
  }

  /** Goes as far as it can without computing, and then runs a segment. @returns whether it came any further */
  async advance(): Promise<boolean> {
    if (this.isOver) return false;
    this.#next ??= this.#begin();
    const { lane, program } = this.#bound;
    const [before, segment] = [program.segments[this.#next - 1], program.segments[this.#next]];
    if (before !== undefined && !this.#timed('receive', () => lane.hasArrived(before), before)) return false;
    if (segment === undefined) return this.#end();
    if (!lane.mayRun(segment)) return false;
    await this.#run(segment);
    this.#next += 1;
    return true;
  }

  #timed<T>(activity: Activity, work: () => T, segment?: BoundSegment): T {
    return this.#context.timed(activity, work, { lane: this.#index, ...(segment && { segment: segment.number }) });
  }

  #begin(): number {
    const { lane, program } = this.#bound;
    lane.begin(this.#task.id, this.#microBatch);
    const inputs = Object.entries(this.#task.microBatches[this.#microBatch] ?? {});
    this.#timed('inputs', () => {
      for (const [name, { data }] of inputs) program.inputs[name]?.data.set(data);
    });
    return 0;
  }

  async #run(segment: BoundSegment): Promise<void> {
    const { recorder, status } = this.#context;
    const begun = machineTime();
    await segment.run().catch((cause: unknown) => {
      const memory = outOfMemory(cause, 'run', segment.entry);
      if (memory) throw memory;
      const why = cause instanceof Error ? cause.message.trim() : String(cause);
      throw new TandemError('SEGMENT_RUN', `Segment ${segment.number} failed: ${why}`, { cause });
    });
    this.computeMs += (machineTime() - begun) / 1000;
    this.copiedBytes += segment.copiedBytes;
    recorder?.add('segment', begun, { lane: this.#index, segment: segment.number });
    this.sentBytes += this.#timed('send', () => this.#bound.lane.publish(segment), segment);
    status.segmentDone();
  }

  #end(): true {
    const { lane, program } = this.#bound;
    this.outputs.set(
      this.#microBatch,
      this.#timed('outputs', () => copyOf(program.outputs)),
    );
    lane.end();
    this.#microBatch += LANES;
    this.#next = undefined;
    return true;
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

const outputsOf = (lanes: readonly LaneRun[], count: number): readonly Tensors[] =>
  Array.from({ length: count }, (_, microBatch) => lanes[microBatch % LANES]?.outputs.get(microBatch) ?? {});

const runLanes = async (lanes: readonly LaneRun[], { link, status, timed }: RunContext): Promise<void> => {
  while (lanes.some(({ isOver }) => !isOver)) {
    if (status.isAbandoned) throw stepAbandoned();
    let moved = false;
    link.look();
    for (const lane of lanes) moved = (await lane.advance()) || moved;
    if (!moved) timed('wait', () => link.wait());
  }
};

/**
 * Runs a step.
 * @throws TandemError `STEP_ABANDONED`, and as the link and the segments do
 */
export const runStep = async (task: StepTask, given: StepContext): Promise<StepDone> => {
  const start = performance.now();
  const count = task.microBatches.length;
  const recorder = task.trace ? new Recorder() : undefined;
  const context = { ...given, timed: timedBy(recorder), ...(recorder && { recorder }) };
  const lanes = Array.from({ length: Math.min(LANES, count) }, (_, lane) => new LaneRun(lane, task, context));
  await runLanes(lanes, context);
  const computeMs = sum(lanes.map((lane) => lane.computeMs));
  return {
    outputs: outputsOf(lanes, count),
    computeMs,
    exchangeMs: performance.now() - start - computeMs,
    sentBytes: sum(lanes.map((lane) => lane.sentBytes)),
    copiedBytes: sum(lanes.map((lane) => lane.copiedBytes)),
    ...(recorder && { trace: recorder.events }),
  };
};
