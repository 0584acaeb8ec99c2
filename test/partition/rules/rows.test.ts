/** Every row that any rule offers, proved by numbers: the operator whole against the operator on shards. */
import { describe, expect, it } from 'vitest';
import { knownOperators } from '#tandem/partition/rules/index.js';
import type { PlaceContext } from '#tandem/partition/rules/rule.js';
import { CONTEXTS, describeRow, findRows, linearRows, proveRow } from './rows.js';
import { type Prepared, prepare, Runner } from './run.js';
import { describeSample } from './sample.js';
import { SAMPLES } from './samples/index.js';

const withRunner = async <T>(work: (runner: Runner) => Promise<T>): Promise<T> => {
  const runner = new Runner();
  try {
    return await work(runner);
  } finally {
    await runner.close();
  }
};

/** What is wrong with the rule's answers for a sample, on this many devices of these speeds. */
const findWrong = async (runner: Runner, prepared: Prepared, context: PlaceContext): Promise<string[]> => {
  const { rows, problems } = findRows(prepared.node, { ...context, isRepeated: () => true });
  const wrong = [...problems];
  for (const row of [...rows, ...linearRows(prepared.node)]) {
    const problem = await proveRow(runner, prepared, row, context.speeds.length);
    if (problem) wrong.push(`${describeRow(row)}: ${problem}`);
  }
  return wrong;
};

describe('every row that the rule offers gives on shards what the operator gives whole', () => {
  it.each(SAMPLES.map((sample) => [describeSample(sample), sample] as const))('%s', async (_, sample) => {
    await withRunner(async (runner) => {
      const prepared = await prepare(runner, sample);
      const wrong: string[] = [];
      for (const context of CONTEXTS) wrong.push(...(await findWrong(runner, prepared, context)));
      expect(wrong).toEqual([]);
    });
  });
});

it('has a sample of every operator that the planner knows, and of no other', () => {
  const sampled = new Set(SAMPLES.map(({ op }) => op));
  expect(knownOperators().filter((op) => !sampled.has(op))).toEqual([]);
  expect([...sampled].filter((op) => !knownOperators().includes(op))).toEqual([]);
});

it('can split every operator that the planner knows in at least one sample', async () => {
  await withRunner(async (runner) => {
    const split = new Set<string>();
    for (const sample of SAMPLES) {
      const { node } = await prepare(runner, sample);
      if (CONTEXTS.some((context) => findRows(node, context).rows.length > 0)) split.add(sample.op);
    }
    expect(knownOperators().filter((op) => !split.has(op))).toEqual([]);
  });
});
