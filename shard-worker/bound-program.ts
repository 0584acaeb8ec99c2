/**
 * A network's program tied to memory: which tensor lies where, from a step's inputs to its outputs, is settled once, so that a step
 * allocates nothing and a segment's run is one call. Tensors that cross between ranks lie where the link wants them; the others
 * share buffers, one following another as soon as it is released, or stay in the device's memory (`device-values.ts`).
 */
import { TandemError } from '../common/errors.js';
import { type Bound, type BoundRun, type LocalSession, OpenTensor } from '../common/onnxruntime.js';
import { byteLength, type HostTensor, isKnownSpec, type OpenSpec, type TensorSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';
import type { BufferPool } from './buffers.js';
import type { Tensors } from './compute-protocol.js';
import type { Uploads } from './device-values.js';
import { type BoundSegment, type Lane, tensorIn } from './link.js';

export type { BoundSegment };

export interface LoadedSegment {
  readonly session: LocalSession;
  readonly entry: SegmentEntry;
  /** Names of outputs that stay in the device's memory. */
  readonly kept: readonly string[];
  /** Whether inputs and outputs that lie with the host are copied to the device and back. */
  readonly copies: boolean;
}

export interface BoundProgram {
  readonly inputs: Tensors;
  readonly segments: readonly BoundSegment[];
  readonly outputs: Tensors;
}

export interface BindOptions {
  /** Number of the first segment in the rank's program. */
  readonly first: number;
  readonly segments: readonly LoadedSegment[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly string[];
  readonly lane: Lane;
  readonly memory: BufferPool;
  /** Brings to the device what several segments read there; without it each of them copies. */
  readonly uploads?: Uploads;
}

type Value = HostTensor | OpenTensor;
type Values = Map<string, Value>;

const readAny = (values: Values, name: string): Value => {
  const tensor = values.get(name);
  if (tensor !== undefined) return tensor;
  throw new TandemError('SEGMENT_INPUT', `Tensor "${name}" is not there; it was released too early or never made.`);
};

/** What crosses between ranks, or leaves the program, has a known size. */
const read = (values: Values, name: string): HostTensor => {
  const tensor = readAny(values, name);
  if (!(tensor instanceof OpenTensor)) return tensor;
  throw new TandemError(
    'SEGMENT_INPUT',
    `Tensor "${name}" is sent or given out, but its size is not known beforehand.`,
  );
};

/** A run with what must come first and what it leaves behind. */
interface Steps {
  readonly before: readonly BoundRun[];
  readonly run: BoundRun;
  /** Places that nothing reads any more. */
  readonly after: readonly OpenTensor[];
}

const inOrder = ({ before, run, after }: Steps): BoundRun =>
  before.length + after.length === 0
    ? run
    : async () => {
        for (const one of before) await one();
        await run();
        for (const place of after) place.hold(undefined);
      };

const hostBytes = (values: Iterable<Value>): number =>
  [...values].reduce((sum, value) => sum + (value instanceof OpenTensor ? 0 : byteLength(value)), 0);

class Binder {
  readonly #options: BindOptions;
  readonly #values: Values = new Map();
  /** What is both with the host and on the device, once its first reader has brought it there. */
  readonly #uploaded: Map<string, OpenTensor> = new Map();
  /** Tensors that lie in a link's memory, which is not given back. */
  readonly #lent = new Set<HostTensor>();
  /** How many segments read a tensor. */
  readonly #readers = new Map<string, number>();

  constructor(options: BindOptions) {
    this.#options = options;
    for (const name of options.segments.flatMap(({ entry }) => entry.inputs))
      this.#readers.set(name, (this.#readers.get(name) ?? 0) + 1);
  }

  bind(): BoundProgram {
    const { inputs, segments, outputs, memory } = this.#options;
    const given = Object.fromEntries(inputs.map((spec) => [spec.name, memory.tensor(spec)]));
    for (const [name, tensor] of Object.entries(given)) this.#values.set(name, tensor);
    const bound = segments.map((segment, index) => this.#segment(segment, index));
    const last = Object.fromEntries(outputs.map((name) => [name, read(this.#values, name)]));
    return { inputs: given, segments: bound, outputs: last };
  }

  #segment(segment: LoadedSegment, index: number): BoundSegment {
    const { session, entry, kept, copies } = segment;
    const { first, lane } = this.#options;
    const number = first + index;
    const up = entry.inputs.flatMap((name) => this.#upload(segment, name));
    const feeds = this.#readAll(entry.inputs, (name) => this.#uploaded.get(name));
    for (const spec of entry.outputs) {
      const send = entry.sends.findIndex(({ tensor }) => tensor === spec.name);
      if (kept.includes(spec.name)) this.#values.set(spec.name, new OpenTensor());
      else this.#place(spec, send < 0 ? undefined : lane.sent(number, send));
    }
    const made = this.#readAll(entry.outputs.map(({ name }) => name));
    const sends = entry.sends.map(({ tensor }) => read(this.#values, tensor));
    const steps = { before: up.map(({ run }) => run), run: session.bind(feeds, made) };
    const run = inOrder({ ...steps, after: this.#release(entry.release) });
    const crossing = hostBytes([...up.map(({ from }) => from), ...Object.values(feeds), ...Object.values(made)]);
    for (const [receive, spec] of entry.receives.entries()) this.#place(spec, lane.received(number, receive));
    const receives = entry.receives.map(({ name }) => read(this.#values, name));
    return { number, entry, run, sends, receives, copiedBytes: copies ? crossing : 0 };
  }

  #readAll(names: readonly string[], instead: (name: string) => Value | undefined = () => undefined): Bound {
    return Object.fromEntries(names.map((name) => [name, instead(name) ?? readAny(this.#values, name)]));
  }

  /** Where this segment is the first of several on the device to read what lies with the host. */
  #upload({ copies }: LoadedSegment, name: string): readonly { readonly from: HostTensor; readonly run: BoundRun }[] {
    const from = this.#values.get(name);
    const isNew = copies && (this.#readers.get(name) ?? 0) > 1 && !this.#uploaded.has(name);
    if (!isNew || from === undefined || from instanceof OpenTensor) return [];
    const session = this.#options.uploads?.of(from.dtype);
    if (session === undefined) return [];
    const place = new OpenTensor();
    this.#uploaded.set(name, place);
    return [{ from, run: session.bind({ host: from }, { device: place }) }];
  }

  #place(spec: OpenSpec, data: Uint8Array | undefined): void {
    this.#values.set(spec.name, isKnownSpec(spec) ? this.#settled(spec, data) : new OpenTensor());
  }

  #settled({ dtype, shape }: TensorSpec, data: Uint8Array | undefined): HostTensor {
    const tensor = tensorIn(data, { dtype, shape }, (spec) => this.#options.memory.tensor(spec));
    if (data !== undefined) this.#lent.add(tensor);
    return tensor;
  }

  /** @returns places that are free once the segment has run */
  #release(names: readonly string[]): readonly OpenTensor[] {
    const values = names.flatMap((name) => [this.#values.get(name) ?? [], this.#uploaded.get(name) ?? []].flat());
    const own = values.filter((value): value is HostTensor => !(value instanceof OpenTensor));
    this.#options.memory.give(own.filter((tensor) => !this.#lent.has(tensor)));
    for (const name of names) {
      this.#values.delete(name);
      this.#uploaded.delete(name);
    }
    return values.filter((value) => value instanceof OpenTensor);
  }
}

/**
 * Ties a program to memory.
 * @throws TandemError `SEGMENT_INPUT` where a segment reads what is not there
 */
export const bindProgram = (options: BindOptions): BoundProgram => new Binder(options).bind();
