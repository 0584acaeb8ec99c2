/** Brings the weights of many graphs together in one file: each content once, on a page, and none that no node reads. */
import { createHash } from 'node:crypto';
import { sliceLayout } from '../../graph/slice.js';
import { cloneTensor, type ModelProto, setExternalData, type TensorProto, withInitializers } from '../../onnx/index.js';
import { graphReads } from '../../onnx/reads.js';
import type { WeightSource } from '../../read/index.js';
import { SliceCopier } from '../slice-copy.js';
import { type Contents, SHARED_FILE, type SharedWeights, WEIGHTS_FILE } from '../tasks.js';
import { type Appendable, BLOCK_BYTES, pad } from '../write-slices.js';

/** Where a content starts, and in which of the rank's files. */
interface FilePosition {
  readonly file: typeof WEIGHTS_FILE | typeof SHARED_FILE;
  readonly offset: number;
}

export class WeightGatherer {
  readonly #file: Appendable;
  /** By digest. */
  readonly #positions: Map<string, FilePosition>;
  #sharedBytes = 0;

  /**
   * @param file grows with each weight that it does not have yet
   * @param shared has some of them already
   */
  constructor(file: Appendable, shared?: SharedWeights) {
    this.#file = file;
    this.#positions = new Map(shared?.contents.map(([digest, offset]) => [digest, { file: SHARED_FILE, offset }]));
  }

  /** What the file holds by now. */
  get contents(): Contents {
    return [...this.#positions].flatMap(([digest, { file, offset }]) =>
      file === WEIGHTS_FILE ? [[digest, offset]] : [],
    );
  }

  /** Bytes of weights that were found in the shared file, each as often as it was asked for. */
  get sharedBytes(): number {
    return this.#sharedBytes;
  }

  /**
   * Copies a graph's weights.
   * @param weights by initializer name, as `readModel` finds them
   * @returns the graph with its weights in the rank's files instead
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
    const { file, offset } = this.#store(weight, copier);
    setExternalData(copy, file, offset, weight.bytes);
    return copy;
  }

  /** Read twice rather than held: a weight can be larger than a buffer may be. */
  #store(weight: WeightSource, copier: SliceCopier): FilePosition {
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
    const known = this.#positions.get(digest);
    if (known?.file === SHARED_FILE) this.#sharedBytes += weight.bytes;
    if (known !== undefined) return known;
    pad(this.#file);
    const position: FilePosition = { file: WEIGHTS_FILE, offset: this.#file.bytes };
    copier.copy(origin, layout, (piece) => this.#file.write(piece));
    this.#positions.set(digest, position);
    return position;
  }
}

const wholeRange = ({ shape: [size] }: WeightSource): readonly (readonly [number, number])[] =>
  size === undefined ? [] : [[0, size]];
