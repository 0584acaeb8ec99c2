/** Finds every row that a rule offers for a sample, and proves each by running it on shards. */

import type { HostTensor } from '#tandem/common/tensor.js';
import type { Node } from '#tandem/partition/graph/graph.js';
import {
  isOverlapping,
  PARTIAL,
  type Placement,
  placementKey,
  REPLICATE,
  type Shard,
  withoutHalo,
} from '#tandem/partition/graph/placement.js';
import { findRule } from '#tandem/partition/rules/index.js';
import { ILLEGAL, type Match, type Operand, type PlaceContext, type Row } from '#tandem/partition/rules/rule.js';
import { difference, type Prepared, type Runner, runLocal } from './run.js';
import { candidateShards, combine, distribute } from './shards.js';

/** Two uneven ranks, and three even ones. */
export const CONTEXTS: readonly PlaceContext[] = [
  { speeds: [2, 1], rows: true },
  { speeds: [1, 1, 1], rows: true },
];

/** Rounding of float32 in another order of sums; float16 has a mantissa of 10 bits. */
const TOLERANCE = 2e-5;
const HALF_TOLERANCE = 4e-3;

export const describeRow = ({ inputs, outputs }: Row): string =>
  `${inputs.map(placementKey).join(' ')} -> ${outputs.map(placementKey).join(' ')}`;

export interface Found {
  readonly rows: readonly Row[];
  /** Answers that no caller could use. */
  readonly problems: readonly string[];
}

const operands = (node: Node): readonly Operand[] =>
  (['inputs', 'outputs'] as const).flatMap((side) =>
    node[side].flatMap((value, index) => (value ? [{ side, index }] : [])),
  );

/** A rank may need rows of its neighbours' beside the part that was asked about. */
const isAsAsked = (row: Row, { side, index }: Operand, shard: Shard): boolean => {
  const found = row[side][index] ?? REPLICATE;
  return placementKey(found.kind === 'shard' ? withoutHalo(found) : found) === placementKey(shard);
};

/** Asks for a shard, and for those that the rule would rather have. */
const ask = (node: Node, operand: Operand, first: Shard, context: PlaceContext): Found => {
  const rows: Row[] = [];
  const problems: string[] = [];
  const asked = new Set<string>();
  const queue = [first];
  for (let shard = queue.shift(); shard; shard = queue.shift()) {
    if (asked.has(placementKey(shard))) continue;
    asked.add(placementKey(shard));
    const match: Match = findRule(node)?.match(node, operand, shard, context) ?? ILLEGAL;
    const at = `${operand.side}[${operand.index}] as ${placementKey(shard)}`;
    if (match.kind === 'row') {
      rows.push(match.row, ...(match.finer ? [match.finer] : []));
      if (!isAsAsked(match.row, operand, shard)) problems.push(`${at}: the row has it otherwise`);
      if (match.row.inputs.length !== node.inputs.length || match.row.outputs.length !== node.outputs.length)
        problems.push(`${at}: the row has another number of operands`);
    }
    if (match.kind === 'illegal' && shard !== first) problems.push(`${at}: wanted, and then refused`);
    if (match.kind === 'wants') queue.push(...match.shards);
  }
  return { rows, problems };
};

/** Every row that the rule answers with, whichever operand it is asked about. */
export const findRows = (node: Node, context: PlaceContext): Found => {
  const rows = new Map<string, Row>();
  const problems = new Set<string>();
  for (const operand of operands(node)) {
    const shape = node[operand.side][operand.index]?.shape ?? [];
    for (const [axis, extent] of shape.entries()) {
      for (const shard of candidateShards(axis, extent, context.speeds)) {
        const found = ask(node, operand, shard, context);
        for (const row of found.rows) rows.set(describeRow(row), row);
        for (const problem of found.problems) problems.add(problem);
      }
    }
  }
  return { rows: [...rows.values()], problems: [...problems] };
};

/** The rows of partial operands, as `place` makes them of the rule's linear sets. */
export const linearRows = (node: Node): readonly Row[] =>
  (findRule(node)?.linear(node) ?? [])
    .filter((together) => together.length > 0 && together.every((i) => node.inputs[i] && !node.inputs[i]?.constant))
    .map((together) => ({
      inputs: node.inputs.map((_, i): Placement => (together.includes(i) ? PARTIAL : REPLICATE)),
      outputs: node.outputs.map(() => PARTIAL),
    }));

const toleranceOf = (tensors: readonly (HostTensor | undefined)[]): number =>
  tensors.some((tensor) => tensor?.dtype === 'float16') ? HALF_TOLERANCE : TOLERANCE;

/** How far a rank's part is off, of parts that overlap, which `combine` lays over each other. */
const worstPart = (parts: readonly (HostTensor | undefined)[], placement: Placement, expected: HostTensor): number => {
  if (placement.kind !== 'shard' || !isOverlapping(placement)) return 0;
  const wanted = distribute(expected, placement, parts.length, 0);
  return Math.max(...wanted.map((tensor, rank) => difference(parts[rank], tensor)));
};

/** Runs a row on shards; says what is wrong with the result, or nothing. */
export const proveRow = async (
  runner: Runner,
  prepared: Prepared,
  row: Row,
  ranks: number,
): Promise<string | undefined> => {
  const { node, inputs, outputs } = prepared;
  const held = inputs.map((tensor, i) =>
    tensor ? distribute(tensor, row.inputs[i] ?? REPLICATE, ranks, i) : undefined,
  );
  const results: (readonly (HostTensor | undefined)[])[] = [];
  for (let rank = 0; rank < ranks; rank++) {
    try {
      const local = held.map((parts) => parts?.[rank]);
      results.push(await runLocal(runner, prepared, row, rank, local));
    } catch (error) {
      return `rank ${rank} cannot run it: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  const tolerance = toleranceOf([...inputs, ...outputs]);
  for (const [i, expected] of outputs.entries()) {
    if (!expected) continue;
    const parts = results.map((result) => result[i]);
    const placement = row.outputs[i] ?? REPLICATE;
    const whole = combine(parts, placement, node.outputs[i]?.shape ?? []);
    const error = Math.max(difference(whole, expected), worstPart(parts, placement, expected));
    if (error <= tolerance) continue;
    const shapes = parts.map((part) => `[${part?.shape}]`).join(' ');
    return `output ${i} is off by ${error.toExponential(1)} (parts ${shapes})`;
  }
  return undefined;
};
