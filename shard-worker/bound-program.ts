/**
 * A network's program tied to memory: which tensor lies where, from a step's inputs to its outputs, is settled once, so that a step
 * allocates nothing and a segment's run is one call. Tensors that cross between ranks lie where the link wants them; the others
 * share buffers, one following another as soon as it is released.
 */
import { TandemError } from '../common/errors.js';
import { type Bound, type LocalSession, OpenTensor } from '../common/onnxruntime.js';
import { type HostTensor, isKnownSpec, type OpenSpec, type TensorSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';
import type { BufferPool } from './buffers.js';
import type { Tensors } from './compute-protocol.js';
import { type BoundSegment, type Lane, tensorIn } from './link.js';

export type { BoundSegment };

export interface LoadedSegment {
  readonly session: LocalSession;
  readonly entry: SegmentEntry;
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
}

type Values = Map<string, HostTensor | OpenTensor>;

const readAny = (values: Values, name: string): HostTensor | OpenTensor => {
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

const readAll = (values: Values, names: readonly string[]): Bound =>
  Object.fromEntries(names.map((name) => [name, readAny(values, name)]));

class Binder {
  readonly #options: BindOptions;
  readonly #values: Values = new Map();
  /** Tensors that lie in a link's memory, which is not given back. */
  readonly #lent = new Set<HostTensor>();

  constructor(options: BindOptions) {
    this.#options = options;
  }

  bind(): BoundProgram {
    const { inputs, segments, outputs, memory } = this.#options;
    const given = Object.fromEntries(inputs.map((spec) => [spec.name, memory.tensor(spec)]));
    for (const [name, tensor] of Object.entries(given)) this.#values.set(name, tensor);
    const bound = segments.map((segment, index) => this.#segment(segment, index));
    const last = Object.fromEntries(outputs.map((name) => [name, read(this.#values, name)]));
    return { inputs: given, segments: bound, outputs: last };
  }

  #segment({ session, entry }: LoadedSegment, index: number): BoundSegment {
    const { first, lane } = this.#options;
    const number = first + index;
    const feeds = readAll(this.#values, entry.inputs);
    for (const spec of entry.outputs) {
      const send = entry.sends.findIndex(({ tensor }) => tensor === spec.name);
      this.#place(spec, send < 0 ? undefined : lane.sent(number, send));
    }
    const run = session.bind(
      feeds,
      readAll(
        this.#values,
        entry.outputs.map(({ name }) => name),
      ),
    );
    const sends = entry.sends.map(({ tensor }) => read(this.#values, tensor));
    this.#release(entry.release);
    for (const [receive, spec] of entry.receives.entries()) this.#place(spec, lane.received(number, receive));
    const receives = entry.receives.map(({ name }) => read(this.#values, name));
    return { number, entry, run, sends, receives };
  }

  #place(spec: OpenSpec, data: Uint8Array | undefined): void {
    this.#values.set(spec.name, isKnownSpec(spec) ? this.#settled(spec, data) : new OpenTensor());
  }

  #settled({ dtype, shape }: TensorSpec, data: Uint8Array | undefined): HostTensor {
    const tensor = tensorIn(data, { dtype, shape }, (spec) => this.#options.memory.tensor(spec));
    if (data !== undefined) this.#lent.add(tensor);
    return tensor;
  }

  #release(names: readonly string[]): void {
    const tensors = names.flatMap((name) => this.#values.get(name) ?? []);
    const own = tensors.filter((tensor): tensor is HostTensor => !(tensor instanceof OpenTensor));
    this.#options.memory.give(own.filter((tensor) => !this.#lent.has(tensor)));
    for (const name of names) this.#values.delete(name);
  }
}

/**
 * Ties a program to memory.
 * @throws TandemError `SEGMENT_INPUT` where a segment reads what is not there
 */
export const bindProgram = (options: BindOptions): BoundProgram => new Binder(options).bind();
