/** A model file becomes a checked graph, and what was asked of the partitioner a way to decide about it. */
import { TandemError } from '../common/errors.js';
import { canonicalise } from './clean/canonicalise.js';
import { fold } from './clean/fold.js';
import { checkRepeatable, checkSized, checkStraight } from './clean/refuse.js';
import type { DecideOptions } from './decide/decide.js';
import type { Graph } from './graph/graph.js';
import { findScopes } from './graph/scopes.js';
import { stretchOf } from './graph/stretch.js';
import { createGraph, createModel } from './onnx/index.js';
import type { DeviceSpec } from './plan/device.js';
import type { SourceModel } from './read/index.js';
import type { PartitionOptions, SplitRequest, Watch } from './request.js';
import { divideLargeSegments } from './segments/divide.js';
import { sendInt8 } from './segments/int8-wire.js';
import { quantizePrograms } from './segments/quantize/index.js';
import type { Program } from './segments/rank-program.js';
import { isOptimisable } from './write/optimise/target.js';

const STAGES = ['fold', 'place', 'choose', 'emit'] as const;

/** @throws TandemError MODEL_OUTPUTS for outputs that the model does not have */
const keepOutputs = (source: SourceModel, outputs: readonly string[]): SourceModel => {
  const { graph } = source.model;
  const unknown = outputs.filter((name) => !graph?.output.some((output) => output.name === name));
  if (graph === undefined || unknown.length > 0) {
    const have = graph?.output.map(({ name }) => name).join(', ');
    throw new TandemError(
      'MODEL_OUTPUTS',
      `Expected outputs that the model has (${have}); found ${unknown.join(', ')}. Ask for others, or export the model again.`,
    );
  }
  const output = graph.output.filter(({ name }) => outputs.includes(name));
  return { ...source, model: createModel({ ...source.model, graph: createGraph({ ...graph, output }) }) };
};

/**
 * The largest denoisers known have half as many. Every stage takes a time that grows with the graph and no faster, about a
 * millisecond a node in all, so that a graph within the limit is planned in about a minute, whatever is in it.
 */
const MAX_NODES = 65_536;

/** @throws TandemError `MODEL_TOO_LARGE` */
const checkSize = ({ model }: SourceModel): void => {
  const nodes = model.graph?.node.length ?? 0;
  if (nodes <= MAX_NODES) return;
  throw new TandemError(
    'MODEL_TOO_LARGE',
    `Expected a graph of at most ${MAX_NODES} nodes, found ${nodes}; export the model without unrolling its loops.`,
  );
};

/** A graph, and how to decide about it. */
export interface Opened {
  readonly graph: Graph;
  readonly how: DecideOptions;
}

/**
 * The model's graph, checked, and how to decide about it.
 * @throws TandemError of `fold`; MODEL_CONTROL_FLOW, MODEL_RANDOM, MODEL_OUTPUTS, MODEL_TOO_LARGE, QUANTIZE_*
 */
export const open = async (source: SourceModel, request: SplitRequest, options: PartitionOptions): Promise<Opened> => {
  checkQuantizable(request, options);
  checkSize(source);
  const { devices, dims, wire, split = 'tensor', quantize, outputs } = request;
  const { onProgress, signal } = options;
  const enter = (stage: (typeof STAGES)[number]) => {
    signal?.throwIfAborted();
    onProgress?.('plan', STAGES.indexOf(stage), STAGES.length);
  };
  enter('fold');
  const folded = await fold(outputs === undefined ? source : keepOutputs(source, outputs), dims);
  checkStraight(folded);
  const whole = canonicalise(folded);
  const graph = request.stretch === undefined ? whole : stretchOf(whole, request.stretch);
  checkRepeatable(graph, devices.length);
  checkSized(graph);
  const divide = (programs: readonly Program[]): readonly Program[] =>
    devices.some((device) => isOptimised(device, options))
      ? divideLargeSegments(programs, options.segmentWeightsLimit)
      : programs;
  const send = (programs: readonly Program[]): readonly Program[] => (wire === 'int8' ? sendInt8(programs) : programs);
  const finish = (programs: readonly Program[]): readonly Program[] =>
    quantize === 'int8' ? quantizePrograms(divide(send(programs))) : divide(send(programs));
  const scopes = findScopes(graph, source.model);
  return { graph, how: { devices, wire, split, scopes, finish, onStage: enter } };
};

/** Says that nothing is left to plan. */
export const tellPlanned = ({ onProgress }: Watch): void => onProgress?.('plan', STAGES.length, STAGES.length);

/** Int8 weights come into being when segments are optimised; the shape of what runs them fast is that of CPUs. */
const checkQuantizable = ({ quantize, devices }: SplitRequest, { optimise }: PartitionOptions): void => {
  if (quantize !== 'int8') return;
  const unfit = devices.findIndex((device) => !isOptimisable(device.provider));
  if (unfit >= 0) {
    throw new TandemError(
      'QUANTIZE_PROVIDER',
      `int8 weights run on provider "cpu" only, but rank ${unfit} is "${devices[unfit]?.provider}". Use cpu devices, or leave int8 out.`,
    );
  }
  if (optimise === false) {
    throw new TandemError(
      'QUANTIZE_UNPREPARED',
      'int8 weights are made when segments are prepared, which was switched off. Let them be prepared, or leave int8 out.',
    );
  }
};

export const isOptimised = ({ provider }: DeviceSpec, { optimise = true }: PartitionOptions): boolean =>
  optimise && isOptimisable(provider);
