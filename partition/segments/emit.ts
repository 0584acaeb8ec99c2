/**
 * Writes each rank's program: a chain of graphs, what is sent and received after each, and which part of which weight it reads.
 * All arithmetic of a collective is in the graphs (`emit-collective.ts`).
 */

import { TandemError } from '../../common/errors.js';
import type { Provider } from '../../common/onnxruntime.js';
import { byteLength, DTYPES, isKnownSpec, type OpenSpec, type TensorSpec } from '../../common/tensor.js';
import { formsOf, requireForm, type TensorState } from '../graph/collective.js';
import { findUses, type Graph, knownShape, type Node, type Value } from '../graph/graph.js';
import {
  localShape,
  type Placement,
  placementKey,
  REPLICATE,
  rankRanges,
  type Shard,
  samePlacement,
} from '../graph/placement.js';
import { sliceShape, type WeightSlice } from '../graph/slice.js';
import { createGraph, createModel, createTensor, createValueInfo, type ModelProto } from '../onnx/index.js';
import type { WireDtype } from '../plan/choose.js';
import { type Plan, wireType } from '../plan/choose.js';
import type { Collective, Cut } from '../plan/cut.js';
import { findQuirk } from '../rules/quirks.js';
import type { Row } from '../rules/rule.js';
import type { Receive, Send } from '../write/manifest.js';
import { emitReceive, emitSend, type Transfer } from './emit-collective.js';
import { CONTRIB_DOMAIN, fuseAttention } from './fuse-attention.js';
import { localise } from './localise.js';
import { SegmentDraft } from './segment-draft.js';
import { addTurned } from './turn.js';

/** A segment before it is written: the initializers of its graph that `constants` name have no data yet. */
export interface EmittedSegment {
  readonly model: ModelProto;
  readonly constants: readonly WeightSlice[];
  readonly inputs: readonly OpenSpec[];
  readonly outputs: readonly OpenSpec[];
  /** What the segment's nodes make, by name. */
  readonly made: ReadonlyMap<string, OpenSpec>;
  readonly sends: readonly Send[];
  readonly receives: readonly Receive[];
  readonly release: readonly string[];
  /** Bytes of activations that live at the same time while the segment runs, those that wait for later segments included. */
  readonly peakBytes: number;
  /** Bytes that constants have once they are int8, by name; those that stay as they are are not in it. */
  readonly quantized: ReadonlyMap<string, number>;
}

/** Makes a rank's program. */
export const emitRank = (
  graph: Graph,
  plan: Plan,
  cut: Cut,
  rank: number,
  options: EmitOptions,
): readonly EmittedSegment[] => new RankEmitter(graph, plan, cut, rank, options).run();

export interface EmitOptions {
  readonly worldSize: number;
  readonly wireDtype: WireDtype;
  /** Whether attention over many tokens becomes one node that never holds all its scores. */
  readonly fuseAttention: boolean;
  /** The rank's provider, for what it gets wrong. */
  readonly provider?: Provider;
}

class RankEmitter {
  readonly #graph: Graph;
  readonly #plan: Plan;
  readonly #cut: Cut;
  readonly #rank: number;
  readonly #options: EmitOptions;
  readonly #outputs: ReadonlySet<Value>;
  readonly #producers: ReadonlyMap<Value, Node>;
  readonly #drafts: readonly SegmentDraft[];

  constructor(graph: Graph, plan: Plan, cut: Cut, rank: number, options: EmitOptions) {
    this.#graph = graph;
    this.#plan = plan;
    this.#cut = cut;
    this.#rank = rank;
    this.#options = options;
    this.#outputs = new Set(graph.outputs);
    this.#producers = findUses(graph).producer;
    this.#drafts = Array.from({ length: cut.segmentCount }, () => new SegmentDraft());
  }

  run(): readonly EmittedSegment[] {
    for (const collective of this.#cut.collectives) {
      const [before, after] = [this.#draft(collective.after), this.#draft(collective.after + 1)];
      emitReceive(before, after, this.#transfer(collective));
    }
    for (const node of this.#graph.nodes) {
      const segment = this.#cut.segmentOf.get(node);
      if (segment !== undefined) this.#addNode(this.#draft(segment), node);
    }
    for (const collective of this.#cut.collectives) emitSend(this.#draft(collective.after), this.#transfer(collective));
    return this.#finish();
  }

  #draft(segment: number): SegmentDraft {
    const draft = this.#drafts[segment];
    if (!draft) throw new RangeError(`Segment ${segment} does not exist.`);
    return draft;
  }

  #state(value: Value): TensorState {
    const state = this.#plan.tensors.get(value);
    if (!state) throw new RangeError(`Tensor ${value.name} has no state.`);
    return state;
  }

  /** The tensor as its node makes it. A graph output keeps its name for the form that is whole. */
  #madeName(value: Value): string {
    const isPart = this.#outputs.has(value) && this.#state(value).conversions.length > 0;
    return isPart ? `${value.name}@part` : value.name;
  }

  /** The tensor in one of its forms. */
  #formName(value: Value, form: Placement): string {
    if (samePlacement(form, this.#state(value).made)) return this.#madeName(value);
    if (form.kind === 'shard') return `${value.name}@scattered`;
    return this.#outputs.has(value) ? value.name : `${value.name}@whole`;
  }

  /** Of a tensor that is whole, some sizes may be open. */
  #spec(name: string, value: Value, placement: Placement): OpenSpec {
    if (placement.kind === 'shard') return this.#shardSpec(name, value, placement);
    return { name, dtype: value.dtype, shape: knownShape(value) };
  }

  #shardSpec(name: string, value: Value, shard: Shard): TensorSpec {
    return { name, dtype: value.dtype, shape: localShape(requireShape(value), shard, this.#rank) };
  }

  #transfer(collective: Collective): Transfer {
    const { value, from, to } = collective;
    return {
      conversion: collective,
      shape: requireShape(value),
      dtype: value.dtype,
      wireDtype: wireType(value.dtype, this.#options.wireDtype),
      from: this.#formName(value, from),
      to: this.#formName(value, to),
      rank: this.#rank,
      worldSize: this.#options.worldSize,
    };
  }

  #addNode(draft: SegmentDraft, node: Node): void {
    const row = this.#plan.rows.get(node);
    if (!row) throw new RangeError(`Node ${node.name} has no row.`);
    const inputs = node.inputs.map((value, i) =>
      value ? this.#operand(draft, value, row.inputs[i] ?? REPLICATE) : '',
    );
    this.#remedy(draft, node, row, inputs);
    const outputs = node.outputs.map((value) => (value ? this.#madeName(value) : ''));
    const local = localise(node, row, this.#rank, { inputs, outputs });
    for (const [name, { dtype, values }] of local.constants) draft.addInts(name, values, dtype);
    const specs = node.outputs.flatMap((value, i) =>
      value ? [this.#spec(this.#madeName(value), value, row.outputs[i] ?? REPLICATE)] : [],
    );
    for (const { node: made, made: between } of local.nodes)
      draft.add(made, [...specs.filter(({ name }) => made.output.includes(name)), ...between]);
  }

  /** Makes of operands what the rank's provider gets right. Changes `names`. */
  #remedy(draft: SegmentDraft, node: Node, row: Row, names: string[]): void {
    const remedy = findQuirk(node, row, this.#rank, this.#options.provider)?.remedy;
    const specOf = (input: number): OpenSpec | undefined => {
      const value = node.inputs[input];
      return value && this.#spec(names[input] ?? '', value, row.inputs[input] ?? REPLICATE);
    };
    if (remedy?.kind === 'turn') {
      const angle = specOf(0);
      if (angle) names[0] = addTurned(draft, angle);
    }
    for (const [input, axis] of Object.entries(remedy?.kind === 'multiple' ? remedy.axis : {})) {
      const spec = specOf(Number(input));
      if (remedy?.kind !== 'multiple' || spec === undefined || !isKnownSpec(spec)) continue;
      const size = spec.shape[axis] ?? 0;
      names[Number(input)] = draft.addZeros(spec, axis, Math.ceil(size / remedy.of) * remedy.of - size);
    }
  }

  /** Name under which a segment reads a value in the wanted placement; adds what it takes to have it so. */
  #operand(draft: SegmentDraft, value: Value, wanted: Placement): string {
    if (value.constant) return this.#constant(draft, value, wanted);
    const state = this.#state(value);
    const producer = this.#producers.get(value);
    if (producer && this.#plan.placements.constants.has(value) && !draft.defined.has(value.name))
      this.#addNode(draft, producer);
    const form = formsOf(state)[requireForm(state, wanted)] ?? state.made;
    const name = this.#formName(value, form);
    return form.kind === 'replicate' && wanted.kind === 'shard' ? this.#sliced(draft, value, name, wanted) : name;
  }

  #constant(draft: SegmentDraft, value: Value, wanted: Placement): string {
    const { constant, dtype } = value;
    const shape = requireShape(value);
    if (!constant) throw new RangeError(`${value.name} is not a constant.`);
    const source = constant.kind === 'weight' ? constant.source : { dtype, shape, data: constant.data };
    if (wanted.kind === 'shard') {
      const name = `${value.name}@${placementKey(wanted)}`;
      draft.constants.set(name, { name, source, axis: wanted.axis, ranges: rankRanges(wanted, this.#rank) });
      return name;
    }
    const [size] = shape;
    const whole = size === undefined ? { axis: -1, ranges: [] } : { axis: 0, ranges: [[0, size] as const] };
    draft.constants.set(value.name, { name: value.name, source, ...whole });
    return value.name;
  }

  /** The rank's part of a whole tensor, cut out in the segment that needs it. */
  #sliced(draft: SegmentDraft, value: Value, from: string, shard: Shard): string {
    const name = `${from}@${placementKey(shard)}`;
    if (draft.defined.has(name)) return name;
    return draft.addStretches(from, shard.axis, rankRanges(shard, this.#rank), this.#shardSpec(name, value, shard));
  }

  /** Finds out what passes from segment to segment, now that all are drafted. */
  #finish(): readonly EmittedSegment[] {
    const finals = new Set(this.#graph.outputs.map(({ name }) => name));
    const inputs = this.#drafts.map((draft) => draft.inputNames());
    const lastUse = new Map<string, number>();
    inputs.forEach((names, segment) => {
      for (const name of names) lastUse.set(name, segment);
    });
    if (this.#options.fuseAttention) {
      this.#drafts.forEach((draft, segment) => {
        const sent = new Set(draft.sends.map(({ tensor }) => tensor));
        fuseAttention(draft, (name) => sent.has(name) || finals.has(name) || (lastUse.get(name) ?? -1) > segment);
      });
    }
    const specs = this.#allSpecs();
    return this.#drafts.map((draft, segment): EmittedSegment => {
      const sent = new Set(draft.sends.map(({ tensor }) => tensor));
      const outputs = [...draft.defined.values()].filter(
        ({ name }) => sent.has(name) || finals.has(name) || (lastUse.get(name) ?? -1) > segment,
      );
      const held = [...(inputs[segment] ?? []), ...outputs.map(({ name }) => name)];
      const release = [...new Set(held)].filter((name) => !finals.has(name) && (lastUse.get(name) ?? -1) <= segment);
      const inputSpecs = (inputs[segment] ?? []).map((name) => findSpec(specs, name));
      return {
        model: this.#model(draft, inputSpecs, outputs),
        constants: [...draft.constants.values()],
        inputs: inputSpecs,
        outputs,
        made: draft.defined,
        sends: draft.sends,
        receives: draft.receives,
        release,
        peakBytes: this.#peakBytes(draft, segment, specs, lastUse),
        quantized: new Map(),
      };
    });
  }

  #allSpecs(): Map<string, OpenSpec> {
    const specs = new Map<string, OpenSpec>();
    for (const input of this.#graph.inputs) specs.set(input.name, this.#spec(input.name, input, REPLICATE));
    for (const draft of this.#drafts) {
      for (const spec of draft.defined.values()) specs.set(spec.name, spec);
      for (const { name, dtype, shape } of draft.receives) specs.set(name, { name, dtype, shape });
    }
    return specs;
  }

  /** Tensors that a segment holds but does not touch, and the largest sum of live ones while it runs; those of open sizes not counted. */
  #peakBytes(
    draft: SegmentDraft,
    segment: number,
    specs: ReadonlyMap<string, OpenSpec>,
    lastUse: ReadonlyMap<string, number>,
  ): number {
    const lastNode = new Map<string, number>();
    draft.nodes.forEach((node, i) => {
      for (const name of [...node.input, ...node.output]) lastNode.set(name, i);
    });
    const bytes = (name: string) => {
      const spec = specs.get(name);
      return spec && isKnownSpec(spec) ? byteLength(spec) : 0;
    };
    const stays = (name: string) => (lastUse.get(name) ?? -1) > segment;
    const before = this.#drafts.slice(0, segment).flatMap((earlier) => [...earlier.defined.keys()]);
    let live = before
      .filter((name) => (lastUse.get(name) ?? -1) >= segment)
      .reduce((sum, name) => sum + bytes(name), 0);
    let peak = live;
    draft.nodes.forEach((node, i) => {
      live += node.output.reduce((sum, name) => sum + bytes(name), 0);
      peak = Math.max(peak, live);
      for (const name of new Set([...node.input, ...node.output])) {
        if (lastNode.get(name) === i && !stays(name) && specs.has(name)) live -= bytes(name);
      }
    });
    return peak;
  }

  #model(draft: SegmentDraft, inputs: readonly OpenSpec[], outputs: readonly OpenSpec[]): ModelProto {
    const declare = ({ name, dtype, shape }: OpenSpec) => createValueInfo(name, DTYPES[dtype].code, shape);
    const opsets = [...this.#graph.opsets];
    const usesContrib = draft.nodes.some((node) => node.domain === CONTRIB_DOMAIN);
    if (usesContrib && !opsets.some(({ domain }) => domain === CONTRIB_DOMAIN))
      opsets.push({ domain: CONTRIB_DOMAIN, version: 1 });
    return createModel({
      irVersion: BigInt(this.#graph.irVersion),
      opsetImport: opsets.map(({ domain, version }) => ({ domain, version: BigInt(version) })),
      graph: createGraph({
        name: 'segment',
        node: draft.nodes,
        input: inputs.map(declare),
        output: outputs.map(declare),
        initializer: [...draft.constants.values()].map((slice) =>
          createTensor({
            name: slice.name,
            dataType: DTYPES[slice.source.dtype].code,
            dims: sliceShape(slice).map(BigInt),
          }),
        ),
      }),
    });
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

const findSpec = (specs: ReadonlyMap<string, OpenSpec>, name: string): OpenSpec => {
  const spec = specs.get(name);
  if (spec) return spec;
  throw new TandemError(
    'PLAN_BROKEN',
    `Tensor "${name}" is read by a segment but made by none; please report this model.`,
  );
};
