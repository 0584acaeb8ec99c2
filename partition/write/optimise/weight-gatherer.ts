/** Brings the weights of many graphs together in one file: each content once, on a page, and none that no node reads. */
import { createHash } from 'node:crypto';
import { sliceLayout } from '../../graph/slice.js';
import { cloneTensor, type ModelProto, setExternalData, type TensorProto, withInitializers } from '../../onnx/index.js';
import { graphReads } from '../../onnx/reads.js';
import type { WeightSource } from '../../read/index.js';
import { SliceCopier } from '../slice-copy.js';
import { WEIGHTS_FILE } from '../tasks.js';
import { type Appendable, BLOCK_BYTES, pad } from '../write-slices.js';

export class WeightGatherer {
  readonly #file: Appendable;
  /** Where each content starts, by its digest. */
  readonly #offsets = new Map<string, number>();

  /** @param file grows with each weight that it does not have yet */
  constructor(file: Appendable) {
    this.#file = file;
  }

  /**
   * Copies a graph's weights.
   * @param weights by initializer name, as `readModel` finds them
   * @returns the graph with its weights in `WEIGHTS_FILE` instead
   * @throws TandemError WEIGHTS_MISSING, WEIGHTS_TOO_SHORT; NodeJS.ErrnoException from the file system
   */
  gather(model: ModelProto, weights: ReadonlyMap<string, WeightSource>): ModelProto {
    const read = new Set(model.graph ? graphReads(model.graph) : []);
    // The files differ from graph to graph though their names are the same, so a copier must not outlive its graph.
    const copier = new SliceCopier(BLOCK_BYTES);
    try {
      const kept = (model.graph?.initializer ?? []).filter(({ name }) => read.has(name));
      return withInitializers(
        model,
        kept.map((tensor) => this.#place(tensor, weights.get(tensor.name), copier)),
      );
    } finally {
      copier.close();
    }
  }

  #place(tensor: TensorProto, weight: WeightSource | undefined, copier: SliceCopier): TensorProto {
    if (!weight) return tensor;
    const copy = cloneTensor(tensor);
    setExternalData(copy, WEIGHTS_FILE, this.#store(weight, copier), weight.bytes);
    return copy;
  }

  /** Offset of the weight's content in the file. Read twice rather than held: a weight can be larger than a buffer may be. */
  #store(weight: WeightSource, copier: SliceCopier): number {
    const whole = {
      name: weight.name,
      source: weight,
      axis: weight.shape.length === 0 ? -1 : 0,
      ranges: wholeRange(weight),
    };
    const layout = sliceLayout(whole);
    const origin = { kind: 'file', file: weight.file, offset: weight.offset } as const;
    const hash = createHash('sha256');
    copier.copy(origin, layout, (piece) => hash.update(piece));
    const digest = hash.digest('hex');
    const known = this.#offsets.get(digest);
    if (known !== undefined) return known;
    pad(this.#file);
    const offset = this.#file.bytes;
    copier.copy(origin, layout, (piece) => this.#file.write(piece));
    this.#offsets.set(digest, offset);
    return offset;
  }
}

const wholeRange = ({ shape: [size] }: WeightSource): readonly (readonly [number, number])[] =>
  size === undefined ? [] : [[0, size]];
