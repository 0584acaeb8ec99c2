/**
 * Int8 on the wire. What a segment sends goes as 8-bit integers with a float32 scale for each row, by the row's largest value: about a
 * quarter of float32's bytes. The segment ends by making both; the next one that needs the tensor begins by multiplying them. A rank
 * takes its own contribution as it went on the wire too, so all ranks hold the same bits.
 *
 * There is no memory from step to step (error feedback, or sending differences, as in CompactFusion, arXiv 2507.17511): a step's result
 * would then depend on the steps before it, and neither could a lost step be repeated on a replaced rank, nor would a seed always give
 * the same picture.
 */
import { DTYPES, type DType, elementCount } from '../../common/tensor.js';
import { type Graph, type Node, opsetOf, type Value } from '../graph/graph.js';
import { sections } from '../graph/sections.js';
import { Tape } from '../graph/tape.js';
import { intAttribute, intsAttribute } from '../onnx/index.js';
import { LARGEST, rowAxes, rowShape } from './int8-rows.js';
import type { Exchange, Program, Received, Segment, Sent } from './rank-program.js';

/** In place of the scale of a row that is all 0. */
const SMALLEST_SCALE = 1e-30;
/** From here on `ReduceMax` takes its axes as an operand. */
const AXES_AS_INPUT = 18;
const FLOATS: ReadonlySet<DType> = new Set(['float32', 'float16']);

/** A tensor as it goes on the wire. */
interface Coded {
  readonly values: Value;
  readonly scale: Value;
}

type Sized = Value & { readonly shape: readonly number[] };

const isCoded = (value: Value): value is Sized =>
  FLOATS.has(value.dtype) && value.shape !== undefined && elementCount(value.shape) > 0;

const cast = (tape: Tape, value: Value, to: Value): Value =>
  tape.add('Cast', [value], to, [intAttribute('to', DTYPES[to.dtype].code)]);

const codedAs = (tape: Tape, { name, shape }: Sized): Coded => ({
  values: tape.value(name, 'int8', 'int8', shape),
  scale: tape.value(name, 'scale', 'float32', rowShape(shape)),
});

/** The largest value of each row. */
const largest = (tape: Tape, value: Value, { name, shape }: Sized, opset: number): Value => {
  const axes = rowAxes(shape);
  const made = tape.value(name, 'largest', 'float32', rowShape(shape));
  return opset < AXES_AS_INPUT
    ? tape.add('ReduceMax', [value], made, [intsAttribute('axes', axes)])
    : tape.add('ReduceMax', [value, tape.ints(name, axes)], made);
};

const encode = (tape: Tape, value: Sized, opset: number): Coded => {
  const { name, shape } = value;
  const float = (what: string, sizes = shape) => tape.value(name, what, 'float32', sizes);
  const coded = codedAs(tape, value);
  const single = value.dtype === 'float32' ? value : cast(tape, value, float('single'));
  const peak = largest(tape, tape.add('Abs', [single], float('abs')), value, opset);
  const unit = tape.add('Mul', [peak, tape.float(name, 1 / LARGEST)], float('unit', rowShape(shape)));
  tape.add('Max', [unit, tape.float(name, SMALLEST_SCALE)], coded.scale);
  const rounded = tape.add('Round', [tape.add('Div', [single, coded.scale], float('scaled'))], float('rounded'));
  cast(tape, rounded, coded.values);
  return coded;
};

/** What was sent, as it was to be read. */
const decode = (tape: Tape, { name, dtype, shape }: Sized, { values, scale }: Coded): Value => {
  const float = () => tape.value(name, 'decoded', 'float32', shape);
  const single = tape.add('Mul', [cast(tape, values, float()), scale], float());
  return dtype === 'float32' ? single : cast(tape, single, tape.value(name, 'decoded', dtype, shape));
};

/** One exchange becomes two, which all ranks know alike. */
class Exchanges {
  readonly #parts = new Map<Exchange, Readonly<Record<keyof Coded, Exchange>>>();

  of(exchange: Exchange, part: keyof Coded): Exchange {
    const parts = this.#parts.get(exchange) ?? { values: {}, scale: {} };
    this.#parts.set(exchange, parts);
    return parts[part];
  }
}

const PARTS = ['values', 'scale'] as const;

/** Codes one rank's program. */
class Coder {
  readonly #tape = new Tape();
  readonly #exchanges: Exchanges;
  /** What was sent or received so far. */
  readonly #coded = new Map<Value, Coded>();

  constructor(exchanges: Exchanges) {
    this.#exchanges = exchanges;
  }

  program(program: Program): Program {
    const coded = program.segments.map((segment) => this.#segment(segment));
    const sent = coded.flatMap(({ sends }) => sends.map(({ value }) => value));
    const [first] = program.segments;
    if (!first) return program;
    const graphs = sections(
      { ...first.graph, outputs: [...program.outputs, ...sent] },
      coded.map(({ nodes }) => nodes),
    );
    const segments = coded.map(({ sends, receives, folded }, index) => ({
      graph: graphs[index] ?? first.graph,
      sends,
      receives,
      folded,
    }));
    return { ...program, segments };
  }

  #segment({ graph, sends, receives, folded }: Segment): Omit<Segment, 'graph'> & { readonly nodes: readonly Node[] } {
    const nodes = this.#decoded(graph);
    const coded = sends.flatMap((sent) => this.#inParts(sent, this.#send(sent, opsetOf(graph.opsets))));
    return {
      nodes: [...nodes, ...this.#tape.take()],
      sends: coded,
      receives: receives.flatMap((received) => this.#inParts(received, this.#receive(received))),
      folded,
    };
  }

  /** The graph's nodes, which read what was on the wire. */
  #decoded(graph: Graph): readonly Node[] {
    const read = new Map<Value | undefined, Value>();
    for (const value of graph.inputs) {
      const coded = this.#coded.get(value);
      if (coded && isCoded(value)) read.set(value, decode(this.#tape, value, coded));
    }
    const substitute = (value: Value | undefined) => read.get(value) ?? value;
    const nodes = graph.nodes.map((node) => ({ ...node, inputs: node.inputs.map(substitute) }));
    return [...this.#tape.take(), ...nodes];
  }

  #send({ value }: Sent, opset: number): Coded | undefined {
    const coded = this.#coded.get(value) ?? (isCoded(value) ? encode(this.#tape, value, opset) : undefined);
    if (coded) this.#coded.set(value, coded);
    return coded;
  }

  #receive({ value }: Received): Coded | undefined {
    const coded = isCoded(value) ? codedAs(this.#tape, value) : undefined;
    if (coded) this.#coded.set(value, coded);
    return coded;
  }

  #inParts<T extends Sent | Received>(one: T, coded: Coded | undefined): readonly T[] {
    if (!coded) return [one];
    return PARTS.map((part) => ({ ...one, of: this.#exchanges.of(one.of, part), value: coded[part] }));
  }
}

/**
 * The same programs with int8 on the wire. Requires programs whose segments send what they make; ensures the same outputs.
 * @param programs index is the rank
 */
export const sendInt8 = (programs: readonly Program[]): readonly Program[] => {
  const exchanges = new Exchanges();
  return programs.map((program) => new Coder(exchanges).program(program));
};
