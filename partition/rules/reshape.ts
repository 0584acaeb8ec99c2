/**
 * Reshape, Flatten, Squeeze and Unsqueeze: all are known by their input and output shapes alone. The two shapes are cut into
 * the smallest groups of axes with equal products; inside a group a shard is followed through the flattened order.
 */
import type { Node } from '../graph/graph.js';
import {
  isAligned,
  type Piece,
  pieceKey,
  REPLICATE,
  rankSize,
  type Shard,
  scalePiece,
  widen,
} from '../graph/placement.js';
import type { Table } from './registry.js';
import { ILLEGAL, isStatic, type Match, type PlaceContext, type Rule, shapeOf } from './rule.js';
import { refine, refineGroups } from './signature.js';

interface Group {
  /** Axes of either side, without those of size 1. */
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** Cuts two shapes of the same element count into groups of axes with equal products. */
export const groupAxes = (from: readonly number[], to: readonly number[]): Group[] => {
  const wide = (shape: readonly number[]) => shape.flatMap((size, axis) => (size === 1 ? [] : [axis]));
  const [left, right] = [wide(from), wide(to)];
  const groups: Group[] = [];
  let [i, j] = [0, 0];
  while (i < left.length && j < right.length) {
    const group = { from: [left[i] ?? 0], to: [right[j] ?? 0] };
    let [a, b] = [from[left[i++] ?? 0] ?? 1, to[right[j++] ?? 0] ?? 1];
    while (a !== b) {
      if (a < b) {
        if (i >= left.length) return groups;
        group.from.push(left[i] ?? 0);
        a *= from[left[i++] ?? 0] ?? 1;
      } else {
        if (j >= right.length) return groups;
        group.to.push(right[j] ?? 0);
        b *= to[right[j++] ?? 0] ?? 1;
      }
    }
    groups.push(group);
  }
  return groups;
};

const product = (shape: readonly number[], axes: readonly number[]): number =>
  axes.reduce((total, axis) => total * (shape[axis] ?? 1), 1);

/** The pieces seen once, where `count` equal runs of them repeat with the given extent; undefined otherwise. */
const collapse = (pieces: readonly Piece[], count: number, extent: number): readonly Piece[] | undefined => {
  if (pieces.length % count !== 0) return undefined;
  const length = pieces.length / count;
  const first = pieces.slice(0, length);
  if (first.reduce((sum, piece) => sum + piece.extent, 0) !== extent) return undefined;
  const repeats = pieces.every((piece, i) => pieceKey(piece) === pieceKey(first[i % length] ?? piece));
  return repeats ? first : undefined;
};

type Followed =
  | { readonly kind: 'found'; readonly shard: Shard }
  | { readonly kind: 'wants'; readonly shards: readonly Shard[] };

/**
 * Where a shard of one axis of `from` lies in `to`: a shard of it, shards that `from` would need, or neither.
 * @param isRepeated whether what has the shape `to` is the same all along an axis
 */
export const followReshape = (
  from: readonly number[],
  to: readonly number[],
  shard: Shard,
  context: PlaceContext,
  isRepeated: (axis: number) => boolean = () => false,
): Followed | undefined => {
  const group = groupAxes(from, to).find((candidate) => candidate.from.includes(shard.axis));
  if (!group) return undefined;
  const position = group.from.indexOf(shard.axis);
  const before = product(from, group.from.slice(0, position));
  const after = product(from, group.from.slice(position + 1));
  const flat = Array.from({ length: before }, () => shard.pieces.map((piece) => scalePiece(piece, after))).flat();
  for (const [q, axis] of group.to.entries()) {
    const outer = product(to, group.to.slice(0, q));
    const inner = product(to, group.to.slice(q + 1));
    if (!isAligned({ ...shard, pieces: flat }, inner)) continue;
    const pieces = collapse(flat, outer, (to[axis] ?? 1) * inner);
    if (pieces)
      return {
        kind: 'found',
        shard: { kind: 'shard', axis, pieces: pieces.map((piece) => scalePiece(piece, 1 / inner)) },
      };
  }
  return wantReshape(to, group, before, after, shard, { ...context, isRepeated });
};

/**
 * The coarsest shard of the same axis that some axis of the group could carry. Where it would be cut inside of what is repeated, as
 * key heads are for the query heads that read them, also what each rank reads, which is some of it on several ranks.
 */
const wantReshape = (
  to: readonly number[],
  group: Group,
  before: number,
  after: number,
  shard: Shard,
  { isRepeated, ...context }: Omit<PlaceContext, 'isRepeated'> & { readonly isRepeated: (axis: number) => boolean },
): Followed | undefined => {
  for (const [q] of group.to.entries()) {
    const outer = product(to, group.to.slice(0, q));
    const inner = product(to, group.to.slice(q + 1));
    if (outer !== before && outer !== 1) continue;
    const unit = inner / gcd(inner, after);
    if (unit === 1) continue;
    const [next = -1, ...rest] = group.to.slice(q + 1);
    const single = product(to, rest) / gcd(product(to, rest), after);
    const shards = isRepeated(next)
      ? [refineGroups(shard, single, unit, context), widen(shard, unit)]
      : [refine(shard, unit, context)];
    const wanted = shards.filter((one) => one !== undefined);
    if (wanted.length > 0) return { kind: 'wants', shards: wanted };
  }
  return undefined;
};

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

const matchReshape = (node: Node, side: 'inputs' | 'outputs', shard: Shard, context: PlaceContext): Match => {
  const [input, output] = [shapeOf(node.inputs[0]), shapeOf(node.outputs[0])];
  const isRepeated = (axis: number) => !!node.inputs[0] && (context.isRepeated?.(node.inputs[0], axis) ?? false);
  const followed =
    side === 'inputs'
      ? followReshape(input, output, shard, context)
      : followReshape(output, input, shard, context, isRepeated);
  if (!followed) return ILLEGAL;
  if (followed.kind === 'wants') return followed;
  const [at, to] = side === 'inputs' ? [shard, followed.shard] : [followed.shard, shard];
  return { kind: 'row', row: { inputs: [at, ...node.inputs.slice(1).map(() => REPLICATE)], outputs: [to] } };
};

const reshapeRule = (localise?: Rule['localise']): Rule => ({
  cost: 'view',
  match: (node, { side, index }, shard, context) =>
    index === 0 && isStatic(node) ? matchReshape(node, side, shard, context) : ILLEGAL,
  seeds: () => [],
  linear: () => [[0]],
  flops: () => 0,
  ...(localise ? { localise } : {}),
});

/** Without axes every axis of size 1 goes, and on a rank that must be the same ones. */
const squeezeRule: Rule = {
  ...reshapeRule(),
  match: (node, { side, index }, shard, context) => {
    const match = index === 0 && isStatic(node) ? matchReshape(node, side, shard, context) : ILLEGAL;
    if (match.kind !== 'row' || node.inputs[1] || node.attributes.has('axes')) return match;
    const [input] = match.row.inputs;
    const isAlone = input?.kind === 'shard' && context.speeds.some((_, rank) => rankSize(input, rank) === 1);
    return isAlone ? ILLEGAL : match;
  },
};

export const RESHAPE = {
  Reshape: reshapeRule((_, local) => ({ ints: { allowzero: 0 }, constants: { 1: local.outputs[0] ?? [] } })),
  Flatten: reshapeRule(),
  Squeeze: squeezeRule,
  Unsqueeze: reshapeRule(),
} satisfies Table;
