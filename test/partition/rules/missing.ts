/**
 * The reverse of `rows.ts`: tries every combination of placements of a sample's operands on two ranks, running the
 * node as it is, and finds those that come out right although the rule does not offer them.
 */

import type { HostTensor } from '#tandem/common/tensor.js';
import type { Node, Value } from '#tandem/partition/graph/graph.js';
import { apportion, PARTIAL, type Placement, REPLICATE } from '#tandem/partition/graph/placement.js';
import type { PlaceContext } from '#tandem/partition/rules/rule.js';
import { describeRow, findRows, linearRows } from './rows.js';
import { difference, type Prepared, type Runner, replicateRow, runLocal } from './run.js';
import { combine, distribute } from './shards.js';

const CONTEXT: PlaceContext = { speeds: [1, 1] };
const RANKS = CONTEXT.speeds.length;
const TOLERANCE = 1e-5;
/** More inputs make more combinations than is worth waiting for. */
const MOST_INPUTS = 3;

const shards = (value: Value): readonly Placement[] =>
  (value.shape ?? []).flatMap((extent, axis): Placement[] => {
    const piece = apportion(extent, extent, CONTEXT.speeds);
    return piece ? [{ kind: 'shard', axis, pieces: [piece] }] : [];
  });

const isFloat = (value: Value): boolean => value.dtype === 'float32';

const inputChoices = (value: Value | undefined): readonly Placement[] => {
  if (!value || value.constant) return [REPLICATE];
  return [REPLICATE, ...(isFloat(value) ? [PARTIAL] : []), ...shards(value)];
};

const outputChoices = (value: Value | undefined): readonly Placement[] =>
  value ? [...(isFloat(value) ? [PARTIAL] : []), ...shards(value)] : [];

const combinations = <T>(lists: readonly (readonly T[])[]): readonly (readonly T[])[] =>
  lists.reduce<readonly (readonly T[])[]>(
    (rows, list) => rows.flatMap((row) => list.map((choice) => [...row, choice])),
    [[]],
  );

/** What each rank's node makes of its parts; undefined where it cannot run on them. */
const runOnParts = async (
  runner: Runner,
  prepared: Prepared,
  placements: readonly Placement[],
): Promise<readonly (HostTensor | undefined)[] | undefined> => {
  const held = prepared.inputs.map((tensor, i) => tensor && distribute(tensor, placements[i] ?? REPLICATE, RANKS, i));
  const results: (HostTensor | undefined)[] = [];
  for (let rank = 0; rank < RANKS; rank++) {
    try {
      const inputs = held.map((parts) => parts?.[rank]);
      const [output] = await runLocal(runner, prepared, replicateRow(prepared.node), rank, inputs);
      results.push(output);
    } catch {
      return undefined;
    }
  }
  return results;
};

const isSearched = (node: Node): boolean =>
  node.outputs.length === 1 && node.inputs.filter((value) => value && !value.constant).length <= MOST_INPUTS;

/** `S0 R -> S0`: axes without the places where they are split, so that one line stands for all sizes. */
const withoutBounds = (row: string): string => row.replaceAll(/(S\d+):\S+/g, '$1');

/** Combinations that are right and not offered. */
export const findMissing = async (runner: Runner, prepared: Prepared): Promise<readonly string[]> => {
  const { node, outputs } = prepared;
  const [expected] = outputs;
  if (!expected || !isSearched(node)) return [];
  const offered = new Set([...findRows(node, CONTEXT).rows, ...linearRows(node)].map(describeRow));
  const missing: string[] = [];
  for (const inputs of combinations(node.inputs.map(inputChoices))) {
    if (inputs.every(({ kind }) => kind === 'replicate')) continue;
    const parts = await runOnParts(runner, prepared, inputs);
    if (!parts) continue;
    for (const output of outputChoices(node.outputs[0])) {
      const row = describeRow({ inputs, outputs: [output] });
      if (offered.has(row)) continue;
      const whole = combine(parts, output, expected.shape);
      if (difference(whole, expected) <= TOLERANCE) missing.push(withoutBounds(row));
    }
  }
  return missing;
};
