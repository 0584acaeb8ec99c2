/** A rank's segment while it is being made: nodes with names, and what they define and read. */

import { byteLength, isKnownSpec, type OpenSpec, type TensorSpec } from '../../common/tensor.js';
import type { WeightSlice } from '../graph/slice.js';
import { type AttributeProto, createNode, intAttribute, type NodeProto } from '../onnx/index.js';
import type { Receive, Send } from '../write/manifest.js';

/** A segment as it grows. */
export class SegmentDraft {
  nodes: NodeProto[] = [];
  readonly defined = new Map<string, OpenSpec>();
  readonly used = new Set<string>();
  readonly constants = new Map<string, WeightSlice>();
  readonly sends: Send[] = [];
  readonly receives: Receive[] = [];

  add(node: NodeProto, outputs: readonly OpenSpec[]): void {
    this.nodes.push(node);
    for (const input of node.input) if (input !== '' && !this.constants.has(input)) this.used.add(input);
    for (const output of outputs) this.defined.set(output.name, output);
  }

  /** @returns the output's name */
  addNode(
    opType: string,
    input: readonly string[],
    output: OpenSpec,
    attribute: readonly AttributeProto[] = [],
    domain = '',
  ): string {
    const node = {
      name: output.name,
      opType,
      domain,
      input: [...input],
      output: [output.name],
      attribute: [...attribute],
    };
    this.add(createNode(node), [output]);
    return output.name;
  }

  addOp(
    opType: string,
    input: readonly string[],
    output: OpenSpec,
    ints: Readonly<Record<string, number>> = {},
  ): string {
    return this.addNode(
      opType,
      input,
      output,
      Object.entries(ints).map(([name, value]) => intAttribute(name, value)),
    );
  }

  addInts(name: string, values: readonly number[], dtype: 'int64' | 'int32' = 'int64'): string {
    const array = dtype === 'int64' ? BigInt64Array.from(values, BigInt) : Int32Array.from(values);
    const source = { dtype, shape: [values.length], data: new Uint8Array(array.buffer) };
    this.constants.set(name, { name, source, axis: 0, ranges: [[0, values.length]] });
    return name;
  }

  /** A tensor with `count` zeros behind it along an axis. @returns its name */
  addZeros(tensor: TensorSpec, axis: number, count: number): string {
    const resized = (size: number) => tensor.shape.map((old, other) => (other === axis ? size : old));
    const output = { ...tensor, name: `${tensor.name}@filled`, shape: resized((tensor.shape[axis] ?? 0) + count) };
    if (this.defined.has(output.name)) return output.name;
    const zeros = { dtype: tensor.dtype, shape: resized(count) };
    const name = `${output.name}@zeros`;
    const source = { ...zeros, data: new Uint8Array(byteLength(zeros)) };
    this.constants.set(name, { name, source, axis, ranges: [[0, count]] });
    return this.addOp('Concat', [tensor.name, name], output, { axis });
  }

  /** Stretches `[start, end)` of a tensor's axis, one after the other, as one tensor. @returns its name */
  addStretches(
    from: string,
    axis: number,
    stretches: readonly (readonly [number, number])[],
    output: TensorSpec,
  ): string {
    const axes = this.addInts(`axis${axis}@slice`, [axis]);
    const parts = stretches.map(([start, end], i) => {
      const name = stretches.length === 1 ? output.name : `${output.name}@${i}`;
      const bounds = [start, end].map((bound) => this.addInts(`${bound}@slice`, [bound]));
      const shape = output.shape.map((size, other) => (other === axis ? end - start : size));
      return this.addOp('Slice', [from, ...bounds, axes], { ...output, name, shape });
    });
    if (parts.length > 1) this.addOp('Concat', parts, output, { axis });
    return output.name;
  }

  /** Type and shape of a tensor that the segment makes; undefined where it makes none of that name, or one of open sizes. */
  knownSpec(name: string): TensorSpec | undefined {
    const spec = this.defined.get(name);
    return spec && isKnownSpec(spec) ? spec : undefined;
  }

  inputNames(): string[] {
    return [...this.used].filter((name) => !this.defined.has(name));
  }
}
