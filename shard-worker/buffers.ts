/**
 * Memory for tensors, used again instead of given back: a step of a full-size network makes and drops hundreds of megabytes,
 * which V8 would zero before and collect after.
 */
import { byteLength, type HostTensor, type TensorSpec } from '../common/tensor.js';

/** Free buffers, by size: the sizes of a step are those of the step before. */
export class BufferPool {
  readonly #make: (bytes: number) => ArrayBufferLike;
  readonly #free = new Map<number, Uint8Array[]>();
  readonly #made: Uint8Array[] = [];

  /** @param make how a new buffer is made; `sharedBuffer` for memory that both threads of a worker see */
  constructor(make: (bytes: number) => ArrayBufferLike) {
    this.#make = make;
  }

  /** A buffer of that many bytes; what it holds is left over from its last use. */
  take(bytes: number): Uint8Array {
    return this.#free.get(bytes)?.pop() ?? this.#fresh(bytes);
  }

  /** A tensor of this type and shape, not filled yet. */
  tensor({ dtype, shape }: Omit<TensorSpec, 'name'>): HostTensor {
    return { dtype, shape, data: this.take(byteLength({ dtype, shape })) };
  }

  /** The same tensor in a buffer of this pool. */
  copy(tensor: HostTensor): HostTensor {
    const data = this.take(tensor.data.byteLength);
    data.set(tensor.data);
    return { ...tensor, data };
  }

  /** Takes tensors back that came from here; nobody may use them any more. */
  give(tensors: Iterable<HostTensor>): void {
    for (const { data } of tensors) this.#giveOne(data);
  }

  /** Takes everything back that ever came from here, for users that never use theirs at the same time. */
  giveAll(): void {
    this.#free.clear();
    for (const data of this.#made) this.#giveOne(data);
  }

  #fresh(bytes: number): Uint8Array {
    const data = new Uint8Array(this.#make(bytes));
    this.#made.push(data);
    return data;
  }

  #giveOne(data: Uint8Array): void {
    const free = this.#free.get(data.byteLength);
    if (free) free.push(data);
    else this.#free.set(data.byteLength, [data]);
  }
}

export const ownBuffer = (bytes: number): ArrayBufferLike => new ArrayBuffer(bytes);

/** ONNX Runtime's binding takes no shared memory: what a session reads or writes lives in a thread's own. */
export const sharedBuffer = (bytes: number): ArrayBufferLike => new SharedArrayBuffer(bytes);
