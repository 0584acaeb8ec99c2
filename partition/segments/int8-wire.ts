/**
 * Int8 on the wire. What a segment sends goes as 8-bit integers with a float32 scale for each row, by the row's largest value: about a
 * quarter of float32's bytes. The segment ends by making both; the next one that needs the tensor begins by multiplying them. A rank
 * takes its own contribution as it went on the wire too, so all ranks hold the same bits.
 *
 * There is no memory from step to step (error feedback, or sending differences, as in CompactFusion, arXiv 2507.17511): a step's result
 * would then depend on the steps before it, and neither could a lost step be repeated on a replaced rank, nor would a seed always give
 * the same picture.
 */
import { byteLength, DTYPES, type DType, elementCount, isKnownSpec, type TensorSpec } from '../../common/tensor.js';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  intAttribute,
  intsAttribute,
  type ModelProto,
  type NodeProto,
  tensorAttribute,
} from '../onnx/index.js';
import type { EmittedSegment } from './emit.js';
import { LARGEST, rowAxes, rowShape } from './int8-rows.js';

/** In place of the scale of a row that is all 0. */
const SMALLEST_SCALE = 1e-30;
/** From here on `ReduceMax` takes its axes as an operand. */
const AXES_AS_INPUT = 18;
const FLOATS: ReadonlySet<DType> = new Set(['float32', 'float16']);

type Program = readonly EmittedSegment[];

const valuesName = (name: string): string => `${name}@int8`;
const scaleName = (name: string): string => `${name}@scale`;

const valuesSpec = ({ name, shape }: TensorSpec): TensorSpec => ({ name: valuesName(name), dtype: 'int8', shape });
const scaleSpec = ({ name, shape }: TensorSpec): TensorSpec => ({
  name: scaleName(name),
  dtype: 'float32',
  shape: rowShape(shape),
});

const isCoded = (spec: { readonly dtype: DType; readonly shape: readonly number[] }): boolean =>
  FLOATS.has(spec.dtype) && elementCount(spec.shape) > 0;

/** Nodes one after the other, each named after what it makes. */
class Nodes {
  readonly made: NodeProto[] = [];

  add(opType: string, input: readonly string[], output: string, attribute: NodeProto['attribute'] = []): string {
    this.made.push(createNode({ name: output, opType, input: [...input], output: [output], attribute }));
    return output;
  }

  cast(input: string, output: string, to: DType): string {
    return this.add('Cast', [input], output, [intAttribute('to', DTYPES[to].code)]);
  }

  float(value: number, output: string): string {
    const rawData = new Uint8Array(Float32Array.of(value).buffer);
    const tensor = createTensor({ dataType: DTYPES.float32.code, rawData });
    return this.add('Constant', [], output, [tensorAttribute('value', tensor)]);
  }

  /** The largest value of each row. */
  largest(input: string, axes: readonly number[], output: string, opset: number): string {
    if (opset < AXES_AS_INPUT) return this.add('ReduceMax', [input], output, [intsAttribute('axes', axes)]);
    const rawData = new Uint8Array(BigInt64Array.from(axes, BigInt).buffer);
    const tensor = createTensor({ dataType: DTYPES.int64.code, dims: [BigInt(axes.length)], rawData });
    const list = this.add('Constant', [], `${output}@axes`, [tensorAttribute('value', tensor)]);
    return this.add('ReduceMax', [input, list], output);
  }
}

const encode = ({ name, dtype, shape }: TensorSpec, opset: number): readonly NodeProto[] => {
  const nodes = new Nodes();
  const at = (what: string): string => `${name}@int8${what}`;
  const single = dtype === 'float32' ? name : nodes.cast(name, at('single'), 'float32');
  const largest = nodes.largest(nodes.add('Abs', [single], at('abs')), rowAxes(shape), at('largest'), opset);
  const scale = nodes.add('Mul', [largest, nodes.float(1 / LARGEST, at('unit'))], at('scale'));
  nodes.add('Max', [scale, nodes.float(SMALLEST_SCALE, at('least'))], scaleName(name));
  const rounded = nodes.add('Round', [nodes.add('Div', [single, scaleName(name)], at('scaled'))], at('rounded'));
  nodes.cast(rounded, valuesName(name), 'int8');
  return nodes.made;
};

/** Makes `name` of what was sent. */
const decode = ({ name, dtype }: TensorSpec): readonly NodeProto[] => {
  const nodes = new Nodes();
  const values = nodes.cast(valuesName(name), `${name}@int8values`, 'float32');
  const isSingle = dtype === 'float32';
  const single = nodes.add('Mul', [values, scaleName(name)], isSingle ? name : `${name}@int8single`);
  if (!isSingle) nodes.cast(single, name, dtype);
  return nodes.made;
};

const opsetOf = ({ opsetImport }: ModelProto): number =>
  Number(opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1);

/** A rank's tensors that are sent or received in parts, by their names in its program. */
type Coded = ReadonlyMap<string, TensorSpec>;

const codedOf = (program: Program): Coded => {
  const sent = program.flatMap(({ sends, outputs }) => {
    const names = new Set(sends.map(({ tensor }) => tensor));
    return outputs.filter(({ name }) => names.has(name)).filter(isKnownSpec);
  });
  const received = program.flatMap(({ receives }) =>
    receives.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
  );
  return new Map([...sent, ...received].filter(isCoded).map((spec) => [spec.name, spec]));
};

const inParts = (names: readonly string[], coded: Coded): readonly string[] =>
  names.flatMap((name) => (coded.has(name) ? [valuesName(name), scaleName(name)] : [name]));

const specsInParts = <T extends { readonly name: string }>(specs: readonly T[], coded: Coded): (T | TensorSpec)[] =>
  specs.flatMap((spec): (T | TensorSpec)[] => {
    const whole = coded.get(spec.name);
    return whole ? [valuesSpec(whole), scaleSpec(whole)] : [spec];
  });

const distinct = <T extends { readonly name: string }>(specs: readonly T[]): readonly T[] => [
  ...new Map(specs.map((spec) => [spec.name, spec])).values(),
];

class Coder {
  readonly #coded: Coded;
  readonly #finals: ReadonlySet<string>;

  constructor(coded: Coded, finals: ReadonlySet<string>) {
    this.#coded = coded;
    this.#finals = finals;
  }

  segment(segment: EmittedSegment): EmittedSegment {
    const coded = this.#coded;
    const sent = [...new Set(segment.sends.map(({ tensor }) => tensor))].flatMap((name) => coded.get(name) ?? []);
    const read = segment.inputs.flatMap(({ name }) => coded.get(name) ?? []);
    const opset = opsetOf(segment.model);
    const nodes = [
      ...read.flatMap(decode),
      ...(segment.model.graph?.node ?? []),
      ...sent.flatMap((spec) => encode(spec, opset)),
    ];
    const kept = segment.outputs.filter(({ name }) => this.#finals.has(name) && coded.has(name));
    const inputs = distinct(specsInParts(segment.inputs, coded));
    const outputs = distinct([...kept, ...specsInParts(segment.outputs, coded)]);
    return {
      ...segment,
      model: rewrite(segment.model, nodes, inputs, outputs),
      inputs,
      outputs,
      made: new Map([...segment.made, ...this.#made(read, sent)]),
      sends: segment.sends.flatMap((send) => inParts([send.tensor], coded).map((tensor) => ({ ...send, tensor }))),
      receives: segment.receives.flatMap((receive) => {
        const whole = coded.get(receive.name);
        if (!whole) return [receive];
        const { from, tensor } = receive;
        return [
          { ...valuesSpec(whole), from, tensor: valuesName(tensor) },
          { ...scaleSpec(whole), from, tensor: scaleName(tensor) },
        ];
      }),
      release: inParts(segment.release, coded),
      peakBytes: segment.peakBytes + Math.max(0, ...sent.map(byteLength), ...read.map(byteLength)),
    };
  }

  /** What further nodes make, for those that divide the segment. */
  #made(read: readonly TensorSpec[], sent: readonly TensorSpec[]): readonly (readonly [string, TensorSpec])[] {
    const between = ({ name, shape }: TensorSpec): readonly TensorSpec[] => [
      ...['single', 'abs', 'scaled', 'rounded', 'values'].map((what) => ({
        name: `${name}@int8${what}`,
        dtype: 'float32' as const,
        shape,
      })),
      ...['largest', 'scale'].map((what) => ({
        name: `${name}@int8${what}`,
        dtype: 'float32' as const,
        shape: rowShape(shape),
      })),
      ...['unit', 'least'].map((what) => ({ name: `${name}@int8${what}`, dtype: 'float32' as const, shape: [] })),
      { name: `${name}@int8largest@axes`, dtype: 'int64', shape: [rowAxes(shape).length] },
    ];
    const specs = [
      ...read.flatMap((spec) => [spec, ...between(spec)]),
      ...sent.flatMap((spec) => [valuesSpec(spec), scaleSpec(spec), ...between(spec)]),
    ];
    return specs.map((spec) => [spec.name, spec]);
  }
}

const rewrite = (
  { irVersion, opsetImport, graph }: ModelProto,
  node: NodeProto[],
  inputs: EmittedSegment['inputs'],
  outputs: EmittedSegment['outputs'],
): ModelProto => {
  const declare = ({ name, dtype, shape }: EmittedSegment['inputs'][number]) =>
    createValueInfo(name, DTYPES[dtype].code, shape);
  return createModel({
    irVersion,
    opsetImport,
    graph: createGraph({
      name: graph?.name ?? 'segment',
      node,
      initializer: graph?.initializer ?? [],
      input: inputs.map(declare),
      output: outputs.map(declare),
    }),
  });
};

/**
 * The same programs with int8 on the wire.
 * @param programs index is the rank
 * @param finals names of the graph's outputs
 */
export const sendInt8 = (programs: readonly Program[], finals: ReadonlySet<string>): readonly Program[] =>
  programs.map((program) => {
    const coder = new Coder(codedOf(program), finals);
    return program.map((segment) => coder.segment(segment));
  });
