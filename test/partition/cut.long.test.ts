/** The ranks' programs of real exports, walked segment by segment. */

import { describe, expect, it } from 'vitest';
import type { OpenSpec } from '#tandem/common/tensor.js';
import type { Graph } from '#tandem/partition/graph/graph.js';
import { knownShape } from '#tandem/partition/graph/graph.js';
import type { EmittedSegment } from '#tandem/partition/segments/emit.js';
import { emitAll, planGraph, readFixture, TINY_EXPORTS } from './stages.js';

type Program = readonly EmittedSegment[];

const SPEEDS = [
  [1, 1],
  [1, 1, 1],
  [1, 1, 1, 1],
] as const;

const describeSpec = ({ dtype, shape }: Omit<OpenSpec, 'name'>): string => `${dtype}[${shape?.join(', ') ?? '?'}]`;

/** Names that a segment's graph reads before it has them. */
const readTooEarly = ({ model }: EmittedSegment): readonly string[] => {
  const graph = model.graph;
  const known = new Set(['', ...[...(graph?.input ?? []), ...(graph?.initializer ?? [])].map(({ name }) => name)]);
  return (graph?.node ?? []).flatMap((node) => {
    const early = node.input.filter((name) => !known.has(name));
    for (const name of node.output) known.add(name);
    return early.map((name) => `${node.name} reads "${name}" before it is made`);
  });
};

/** Names that a segment's graph makes more than once. */
const madeTwice = ({ model }: EmittedSegment): readonly string[] => {
  const graph = model.graph;
  const made = [
    ...(graph?.input ?? []).map(({ name }) => name),
    ...(graph?.initializer ?? []).map(({ name }) => name),
    ...(graph?.node ?? []).flatMap(({ output }) => output.filter((name) => name !== '')),
  ];
  return made.filter((name, i) => made.indexOf(name) !== i).map((name) => `"${name}" is made twice`);
};

/** Plays a rank's program with names in place of tensors. */
const walk = (graph: Graph, programs: readonly Program[], rank: number): readonly string[] => {
  const problems: string[] = [];
  const held = new Map(graph.inputs.map((input) => [input.name, describeSpec({ ...input, shape: knownShape(input) })]));
  for (const [index, segment] of (programs[rank] ?? []).entries()) {
    const say = (problem: string) => problems.push(`rank ${rank}, segment ${index}: ${problem}`);
    for (const problem of [...readTooEarly(segment), ...madeTwice(segment)]) say(problem);
    for (const input of segment.inputs) {
      if (held.get(input.name) !== describeSpec(input))
        say(`"${input.name}" is ${held.get(input.name) ?? 'not there'}`);
    }
    for (const output of segment.outputs) held.set(output.name, describeSpec(output));
    for (const { tensor } of segment.sends) if (!held.has(tensor)) say(`sends "${tensor}", which is not there`);
    for (const receive of segment.receives) {
      const sender = programs[receive.from]?.[index];
      const sent = sender?.sends.find(({ tensor, to }) => tensor === receive.tensor && to.includes(rank));
      if (!sent) say(`waits for "${receive.tensor}", which rank ${receive.from} does not send`);
      const made = sender?.outputs.find(({ name }) => name === receive.tensor);
      if (made && describeSpec(made) !== describeSpec(receive))
        say(`"${receive.name}" arrives as ${describeSpec(made)}`);
      held.set(receive.name, describeSpec(receive));
    }
    for (const name of segment.release) if (!held.delete(name)) say(`releases "${name}", which is not there`);
  }
  for (const output of graph.outputs) {
    const expected = describeSpec({ ...output, shape: output.shape ?? [] });
    if (held.get(output.name) !== expected) problems.push(`rank ${rank} ends without "${output.name}" ${expected}`);
  }
  return problems;
};

/** What is sent and not waited for. */
const unread = (programs: readonly Program[], rank: number): readonly string[] =>
  (programs[rank] ?? []).flatMap(({ sends }, index) =>
    sends.flatMap(({ tensor, to }) =>
      to
        .filter((peer) => !programs[peer]?.[index]?.receives.some((one) => one.from === rank && one.tensor === tensor))
        .map((peer) => `rank ${rank}, segment ${index}: rank ${peer} does not wait for "${tensor}"`),
    ),
  );

describe.each(TINY_EXPORTS)('the programs of %s', (name, dims) => {
  it('read nothing before it is made, receive what is sent, and release nothing that is read later', async () => {
    const graph = await readFixture(name, dims);
    for (const speeds of SPEEDS) {
      const { plan, cut } = planGraph(graph, speeds);
      for (const wireDtype of ['fp32', 'fp16'] as const) {
        const programs = emitAll(graph, plan, cut, { worldSize: speeds.length, wireDtype, fuseAttention: false });
        expect(new Set(programs.map((program) => program.length)).size).toBe(1);
        expect(speeds.flatMap((_, rank) => [...walk(graph, programs, rank), ...unread(programs, rank)])).toEqual([]);
      }
    }
  });
});

it('exchanges nothing on one device', async () => {
  const { programs, cut } = planGraph(await readFixture('tiny-ts17'), [1]);
  expect(cut.collectives).toEqual([]);
  expect(programs.map((program) => program.length)).toEqual([1]);
});

it('lets collectives that do not wait for each other share an exchange', async () => {
  const { cut } = planGraph(await readFixture('tiny-ts17'), [1, 1]);
  expect(cut.segmentCount - 1).toBeLessThanOrEqual(cut.collectives.length);
  expect(new Set(cut.collectives.map(({ after }) => after)).size).toBe(cut.segmentCount - 1);
});
