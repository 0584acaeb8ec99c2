/** What of a segment is known before it runs: its weights, and what nodes make of nothing but weights. */

import { isKnownSpec, type TensorSpec } from '../../../common/tensor.js';
import { sliceShape } from '../../graph/slice.js';
import type { NodeProto } from '../../onnx/index.js';
import type { EmittedSegment } from '../emit.js';

export class Constants {
  readonly #specs = new Map<string, TensorSpec>();
  /** By name, the slices that a constant is made of. */
  readonly #slices = new Map<string, readonly string[]>();

  constructor({ model, constants, made }: EmittedSegment) {
    for (const slice of constants) {
      const { name } = slice;
      this.#specs.set(name, { name, dtype: slice.source.dtype, shape: sliceShape(slice) });
      this.#slices.set(name, [name]);
    }
    for (const node of model.graph?.node ?? []) {
      if (!this.isConstant(node)) continue;
      const slices = node.input.flatMap((name) => this.slices(name));
      for (const name of node.output) {
        const spec = made.get(name);
        if (spec && isKnownSpec(spec)) this.#specs.set(name, spec);
        this.#slices.set(name, slices);
      }
    }
  }

  has(name: string): boolean {
    return this.#slices.has(name);
  }

  /** Whether all that a node reads is constant, so that ONNX Runtime folds it. */
  isConstant({ input, attribute }: NodeProto): boolean {
    const isPlain = attribute.every(({ g, graphs }) => !g && graphs.length === 0);
    return isPlain && input.every((name) => name === '' || this.has(name));
  }

  /** Type and shape of a constant; undefined where the name is none. */
  spec(name: string): TensorSpec | undefined {
    return this.#specs.get(name);
  }

  slices(name: string): readonly string[] {
    return this.#slices.get(name) ?? [];
  }
}
