/** The ranks' programs of real exports, walked segment by segment. */

import { describe, expect, it } from 'vitest';
import { knownShape, type Value } from '#tandem/partition/graph/graph.js';
import { findBroken } from '#tandem/partition/graph/sections.js';
import { divideLargeSegments } from '#tandem/partition/segments/divide.js';
import { fuseAttention } from '#tandem/partition/segments/fuse-attention.js';
import { nameProgram } from '#tandem/partition/segments/name-values.js';
import { quantizePrograms } from '#tandem/partition/segments/quantize/index.js';
import { findReleases, type Program, type Received, withGraphs } from '#tandem/partition/segments/rank-program.js';
import { emitAll, planGraph, readFixture, TINY_EXPORTS } from './stages.js';

const SPEEDS = [
  [1, 1],
  [1, 1, 1],
  [1, 1, 1, 1],
] as const;

const KIBIBYTES_64 = 64 * 1024;

const describeValue = (value: Value): string => `${value.dtype}[${knownShape(value)?.join(', ') ?? '?'}]`;

/** Names that stand for more than one value, constants included. */
const ambiguous = ({ segments }: Program): readonly string[] => {
  const values = new Map<string, Value>();
  const all = segments.flatMap(({ graph, receives }) => [
    ...graph.inputs,
    ...graph.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]),
    ...receives.map(({ value }) => value),
  ]);
  return all.flatMap((value) => {
    const known = value ? (values.get(value.name) ?? value) : undefined;
    if (value) values.set(value.name, value);
    return known === value ? [] : [`"${value?.name}" is the name of two values`];
  });
};

/** What the sender of a received tensor has. */
const findSent = (programs: readonly Program[], { of, from }: Received, index: number, rank: number) =>
  programs[from]?.segments[index]?.sends.find((sent) => sent.of === of && sent.to.includes(rank))?.value;

/** Plays a rank's program with values in place of tensors. */
const walk = (programs: readonly Program[], rank: number): readonly string[] => {
  const program = programs[rank];
  if (!program) return [`rank ${rank} has no program`];
  const problems: string[] = [];
  const held = new Set(program.inputs);
  const releases = findReleases(program);
  for (const [index, { graph, sends, receives }] of program.segments.entries()) {
    const say = (problem: string) => problems.push(`rank ${rank}, segment ${index}: ${problem}`);
    for (const problem of findBroken(graph)) say(problem);
    for (const { name } of graph.inputs.filter((value) => !held.has(value))) say(`"${name}" is not there`);
    for (const output of graph.outputs) held.add(output);
    for (const { value } of sends) if (!held.has(value)) say(`sends "${value.name}", which is not there`);
    for (const received of receives) {
      const sent = findSent(programs, received, index, rank);
      if (!sent) say(`waits for "${received.value.name}", which rank ${received.from} does not send`);
      else if (describeValue(sent) !== describeValue(received.value))
        say(`"${received.value.name}" arrives as ${describeValue(sent)}`);
      held.add(received.value);
    }
    for (const value of releases[index] ?? [])
      if (!held.delete(value)) say(`releases "${value.name}", which is not there`);
  }
  const missing = program.outputs.filter((value) => !held.has(value));
  const expected = new Set([...program.inputs, ...program.outputs]);
  const left = [...held].filter((value) => !expected.has(value));
  return [
    ...problems,
    ...missing.map(({ name }) => `rank ${rank} ends without "${name}"`),
    ...left.map(({ name }) => `rank ${rank} never releases "${name}"`),
  ];
};

/** What is sent and not waited for. */
const unread = (programs: readonly Program[], rank: number): readonly string[] =>
  (programs[rank]?.segments ?? []).flatMap(({ sends }, index) =>
    sends.flatMap(({ of, to, value }) =>
      to
        .filter((peer) => !programs[peer]?.segments[index]?.receives.some((one) => one.from === rank && one.of === of))
        .map((peer) => `rank ${rank}, segment ${index}: rank ${peer} does not wait for "${value.name}"`),
    ),
  );

const problemsOf = (programs: readonly Program[]): readonly string[] => [
  ...programs.flatMap((_, rank) => [...walk(programs, rank), ...unread(programs, rank)]),
  ...programs.map(nameProgram).flatMap(ambiguous),
];

describe.each(TINY_EXPORTS)('the programs of %s', (name, dims) => {
  it('read nothing before it is made, receive what is sent, and release nothing that is read later', async () => {
    const graph = await readFixture(name, dims);
    for (const speeds of SPEEDS) {
      const { plan, cut } = planGraph(graph, speeds);
      for (const wireDtype of ['fp32', 'fp16'] as const) {
        const programs = emitAll(graph, plan, cut, { worldSize: speeds.length, wireDtype });
        expect(new Set(programs.map(({ segments }) => segments.length)).size).toBe(1);
        expect(problemsOf(programs)).toEqual([]);
      }
    }
  });

  it('are as whole after every pass: attention fused, segments divided, products made int8', async () => {
    const { programs } = planGraph(await readFixture(name, dims), [1, 1], 'fp32', { fuseAttention: false });
    const fused = programs.map((program) => withGraphs(program, fuseAttention));
    const divided = divideLargeSegments(fused, KIBIBYTES_64);
    expect(divided[0]?.segments.length).toBeGreaterThan(programs[0]?.segments.length ?? 0);
    const quantized = quantizePrograms(divided);
    for (const each of [fused, divided, quantized]) {
      expect(problemsOf(each)).toEqual([]);
      expect(each.map(({ inputs, outputs }) => [inputs, outputs])).toEqual(
        programs.map(({ inputs, outputs }) => [inputs, outputs]),
      );
    }
  });
});

it('exchanges nothing on one device', async () => {
  const { programs, cut } = planGraph(await readFixture('tiny-ts17'), [1]);
  expect(cut.collectives).toEqual([]);
  expect(programs.map(({ segments }) => segments.length)).toEqual([1]);
});

it('lets collectives that do not wait for each other share an exchange', async () => {
  const { cut } = planGraph(await readFixture('tiny-ts17'), [1, 1]);
  expect(cut.segmentCount - 1).toBeLessThanOrEqual(cut.collectives.length);
  expect(new Set(cut.collectives.map(({ after }) => after)).size).toBe(cut.segmentCount - 1);
});
