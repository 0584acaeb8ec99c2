/**
 * Writes each rank's program: a chain of graphs, what is sent and received after each, and which part of which weight it reads.
 * All arithmetic of a collective is in the graphs (`emit-collective.ts`). A value that the rank has whole is the model's own.
 */

import { TandemError } from '../../common/errors.js';
import type { Provider } from '../../common/onnxruntime.js';
import { formsOf, requireForm, type TensorState } from '../graph/collective.js';
import { findUses, type Graph, type Node, sliceOf, type Value } from '../graph/graph.js';
import {
  localShape,
  type Placement,
  placementKey,
  REPLICATE,
  rangesWithin,
  rankRanges,
  type Shard,
  samePlacement,
} from '../graph/placement.js';
import { sections } from '../graph/sections.js';
import { Tape } from '../graph/tape.js';
import { type Plan, type WireDtype, wireType } from '../plan/choose.js';
import type { Collective, Cut } from '../plan/cut.js';
import { findQuirk } from '../rules/quirks.js';
import type { Row } from '../rules/rule.js';
import { cutOut, withZeros } from './cut-out.js';
import { emitReceive, emitSend, type Passing, type Transfer } from './emit-collective.js';
import { localise } from './localise.js';
import type { Program } from './rank-program.js';
import { turned } from './turn.js';

/** Makes a rank's program. */
export const emitRank = (graph: Graph, plan: Plan, cut: Cut, rank: number, options: EmitOptions): Program =>
  new RankEmitter(graph, plan, cut, rank, options).run();

export interface EmitOptions {
  readonly worldSize: number;
  readonly wireDtype: WireDtype;
  /** The rank's provider, for what it gets wrong. */
  readonly provider?: Provider;
}

/** What was made of a value, by what for. */
class Made {
  readonly #values = new Map<Value, Map<string, Value>>();

  find(of: Value, what: string): Value | undefined {
    return this.#values.get(of)?.get(what);
  }

  set(of: Value, what: string, value: Value): Value {
    const known = this.#values.get(of) ?? new Map<string, Value>();
    this.#values.set(of, known.set(what, value));
    return value;
  }

  once(of: Value, what: string, make: () => Value): Value {
    return this.find(of, what) ?? this.set(of, what, make());
  }
}

const isNode = (node: Node | undefined): node is Node => node !== undefined;

class RankEmitter {
  readonly #graph: Graph;
  readonly #plan: Plan;
  readonly #cut: Cut;
  readonly #rank: number;
  readonly #options: EmitOptions;
  readonly #producers: ReadonlyMap<Value, Node>;
  readonly #tape = new Tape();
  /** The rank's own of each value, by how it lies. */
  readonly #forms = new Made();
  readonly #passing = new Map<Collective, Passing>();
  readonly #whole = new Map<Value, string>();
  /** Nodes that are computed from weights alone, where this segment has them already. */
  #computed = new Set<Node>();
  /** What this segment made of what it was given. */
  #made = new Made();

  constructor(graph: Graph, plan: Plan, cut: Cut, rank: number, options: EmitOptions) {
    this.#graph = graph;
    this.#plan = plan;
    this.#cut = cut;
    this.#rank = rank;
    this.#options = options;
    this.#producers = findUses(graph).producer;
    for (const input of graph.inputs) this.#forms.set(input, placementKey(REPLICATE), input);
  }

  run(): Program {
    const runs = Array.from({ length: this.#cut.segmentCount }, (_, segment) => this.#emitSegment(segment));
    const outputs = this.#graph.outputs.map((value) =>
      this.#form(value, formsOf(this.#state(value)).at(-1) ?? REPLICATE),
    );
    const passing = runs.map((_, segment) => this.#between(segment).flatMap((one) => this.#passing.get(one) ?? []));
    const sends = passing.map((all) => all.flatMap((one) => one.sends));
    const sent = sends.flat().map(({ value }) => value);
    const graphs = sections({ ...this.#graph, outputs: [...outputs, ...sent] }, runs);
    const segments = graphs.map((graph, index) => ({
      graph,
      sends: sends[index] ?? [],
      receives: (passing[index] ?? []).flatMap((one) => one.receives),
      folded: new Map<Value, number>(),
    }));
    return { inputs: this.#graph.inputs, outputs, segments, whole: this.#whole };
  }

  /** The collectives between a segment and the next. */
  #between(segment: number): readonly Collective[] {
    return this.#cut.collectives.filter(({ after }) => after === segment);
  }

  #emitSegment(segment: number): readonly Node[] {
    this.#computed = new Set();
    this.#made = new Made();
    for (const collective of this.#between(segment - 1)) this.#receive(collective);
    for (const node of this.#graph.nodes) if (this.#cut.segmentOf.get(node) === segment) this.#addNode(node);
    for (const collective of this.#between(segment)) this.#send(collective);
    return this.#tape.take();
  }

  #send(collective: Collective): void {
    const held = this.#form(collective.value, collective.from);
    this.#passing.set(collective, emitSend(this.#tape, this.#transfer(collective), held));
  }

  #receive(collective: Collective): void {
    const { value, to } = collective;
    const passing = this.#passing.get(collective);
    if (!passing) throw new RangeError(`Tensor ${value.name} is received before it is sent.`);
    const shape = localShape(requireShape(value), to, this.#rank);
    const name = this.#nameOfForm(value, to);
    const result = this.#forms.set(value, placementKey(to), { name, dtype: value.dtype, shape });
    if (to.kind === 'replicate') this.#whole.set(result, value.name);
    emitReceive(this.#tape, this.#transfer(collective), passing, result);
  }

  /** The model's outputs keep their names. */
  #nameOfForm(value: Value, form: Placement): string {
    if (form.kind === 'shard') return `${value.name}@scattered`;
    return this.#graph.outputs.includes(value) ? value.name : `${value.name}@whole`;
  }

  #transfer(collective: Collective): Transfer {
    const { value } = collective;
    return {
      conversion: collective,
      name: value.name,
      shape: requireShape(value),
      dtype: value.dtype,
      wireDtype: wireType(value.dtype, this.#options.wireDtype),
      rank: this.#rank,
      worldSize: this.#options.worldSize,
    };
  }

  #state(value: Value): TensorState {
    const state = this.#plan.tensors.get(value);
    if (!state) throw new RangeError(`Tensor ${value.name} has no state.`);
    return state;
  }

  /** The tensor in one of its forms, which must be there by now. */
  #form(value: Value, form: Placement): Value {
    const held = this.#forms.find(value, placementKey(form));
    if (!held) throw new RangeError(`Tensor ${value.name} is read as ${placementKey(form)} before it is made.`);
    return held;
  }

  #addNode(node: Node): void {
    const row = this.#plan.rows.get(node);
    if (!row) throw new RangeError(`Node ${node.name} has no row.`);
    const read = node.inputs.map((value, i) => value && this.#operand(value, row.inputs[i] ?? REPLICATE));
    const inputs = this.#remedy(node, row, read);
    const outputs = node.outputs.map((value, i) => value && this.#output(value, row.outputs[i] ?? REPLICATE));
    localise(this.#tape, node, row, this.#rank, { inputs, outputs });
  }

  #output(value: Value, placement: Placement): Value {
    return this.#forms.once(value, placementKey(placement), () =>
      placement.kind === 'shard'
        ? { name: value.name, dtype: value.dtype, shape: this.#shape(value, placement) }
        : value,
    );
  }

  #shape(value: Value, shard: Shard): readonly number[] {
    return localShape(requireShape(value), shard, this.#rank);
  }

  /** Operands made into what the rank's provider gets right. */
  #remedy(node: Node, row: Row, inputs: readonly (Value | undefined)[]): readonly (Value | undefined)[] {
    const remedy = findQuirk(node, row, this.#rank, this.#options.provider)?.remedy;
    return inputs.map((value, i) => {
      if (!remedy || !value) return value;
      if (remedy.kind === 'turn')
        return i === 0 ? this.#made.once(value, 'turned', () => turned(this.#tape, value)) : value;
      const axis = remedy.axis[i];
      return axis === undefined ? value : this.#filled(value, axis, remedy.of);
    });
  }

  /** Lengthened with zeros to a multiple of `unit`. */
  #filled(value: Value, axis: number, unit: number): Value {
    const size = value.shape?.[axis];
    if (size === undefined) return value;
    const count = Math.ceil(size / unit) * unit - size;
    return this.#made.once(value, `filled ${axis} ${count}`, () => withZeros(this.#tape, value, axis, count));
  }

  /** A value as the segment reads it in the wanted placement; adds what it takes to have it so. */
  #operand(value: Value, wanted: Placement): Value {
    if (value.constant) return wanted.kind === 'shard' ? this.#constantPart(value, wanted) : value;
    const producer = this.#producers.get(value);
    if (isNode(producer) && this.#plan.placements.constants.has(value)) this.#compute(producer);
    const state = this.#state(value);
    const form = formsOf(state)[requireForm(state, wanted)] ?? state.made;
    const held = this.#form(value, form);
    if (wanted.kind !== 'shard' || samePlacement(form, wanted)) return held;
    // The rank's part of what it has more of, cut out in the segment that needs it.
    const ranges = rangesWithin(form, wanted, this.#rank);
    if (!ranges) throw new RangeError(`Tensor ${value.name} lies as ${placementKey(form)}, not as wide as it is read.`);
    return this.#made.once(held, placementKey(wanted), () => cutOut(this.#tape, held, wanted.axis, ranges));
  }

  #compute(producer: Node): void {
    if (this.#computed.has(producer)) return;
    this.#computed.add(producer);
    this.#addNode(producer);
  }

  #constantPart(value: Value, shard: Shard): Value {
    const whole = sliceOf(value);
    if (!whole) throw new RangeError(`${value.name} is not a constant.`);
    const { name, dtype } = value;
    const slice = { ...whole, axis: shard.axis, ranges: rankRanges(shard, this.#rank) };
    return this.#forms.once(value, placementKey(shard), () => ({
      name,
      dtype,
      shape: this.#shape(value, shard),
      constant: { kind: 'part', slice },
    }));
  }
}

/** What is split or sent has a shape: a node of open sizes has no other row than the whole one. */
const requireShape = ({ name, shape }: Value): readonly number[] => {
  if (shape) return shape;
  throw new TandemError(
    'PLAN_BROKEN',
    `Tensor "${name}" is to be split or sent, but its size is only known at run time; please report this model.`,
  );
};
