/**
 * The arithmetic of collectives, as nodes of the segments before and after. A segment ends by casting what it sends to the wire
 * type and cutting it up; the next one begins by adding the ranks' addends in rank order, or joining their parts. A rank takes
 * its own contribution as it went on the wire too: so all ranks hold the same bits.
 */

import { DTYPES, type DType, type TensorSpec } from '../../common/tensor.js';
import type { Conversion } from '../graph/collective.js';
import { localShape, type Placement, REPLICATE, rankRanges, type Shard } from '../graph/placement.js';
import type { SegmentDraft } from './segment-draft.js';

/** One collective of one tensor, as a rank sees it. */
export interface Transfer {
  readonly conversion: Conversion;
  /** Of the whole tensor. */
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly wireDtype: DType;
  /** The tensor's name before the collective, and after it. */
  readonly from: string;
  readonly to: string;
  readonly rank: number;
  readonly worldSize: number;
}

const allRanks = ({ worldSize }: Transfer): readonly number[] => Array.from({ length: worldSize }, (_, rank) => rank);

const peersOf = (transfer: Transfer): number[] => allRanks(transfer).filter((rank) => rank !== transfer.rank);

const wireName = ({ from, dtype, wireDtype }: Transfer): string => (wireDtype === dtype ? from : `${from}@wire`);

/** What a rank sends to another, by the sender's name for it; what it would send to itself it keeps. */
const sentName = (transfer: Transfer, to: number): string =>
  transfer.conversion.kind === 'reduce-scatter' ? `${wireName(transfer)}@to${to}` : wireName(transfer);

const specOf = (
  { shape, dtype }: Transfer,
  name: string,
  placement: Placement,
  rank: number,
  as = dtype,
): TensorSpec => ({ name, dtype: as, shape: localShape(shape, placement, rank) });

/** Ends a segment: what the rank contributes, in the wire type. */
export const emitSend = (draft: SegmentDraft, transfer: Transfer): void => {
  const { conversion, from, rank, dtype, wireDtype } = transfer;
  const wire = wireName(transfer);
  if (wireDtype !== dtype)
    draft.addOp('Cast', [from], specOf(transfer, wire, conversion.from, rank, wireDtype), {
      to: DTYPES[wireDtype].code,
    });
  if (conversion.kind !== 'reduce-scatter') {
    draft.sends.push({ tensor: wire, to: peersOf(transfer) });
    return;
  }
  const shard = conversion.to;
  for (const to of allRanks(transfer)) {
    const spec = specOf(transfer, sentName(transfer, to), shard, to, wireDtype);
    draft.addStretches(wire, shard.axis, rankRanges(shard, to), spec);
    if (to !== rank) draft.sends.push({ tensor: spec.name, to: [to] });
  }
};

/** How a contribution lies that `from` sends. */
const contribution = ({ conversion, rank }: Transfer, from: number): readonly [Placement, number] =>
  conversion.kind === 'reduce-scatter' ? [conversion.to, rank] : [conversion.from, from];

/** Begins the segment after the one that `before` is: the tensor from all contributions. */
export const emitReceive = (before: SegmentDraft, draft: SegmentDraft, transfer: Transfer): void => {
  const { conversion, rank, dtype, wireDtype } = transfer;
  const arrivedName = (from: number) => `${transfer.from}@from${from}`;
  const tensor = sentName(transfer, rank);
  for (const from of peersOf(transfer)) {
    const spec = specOf(transfer, arrivedName(from), ...contribution(transfer, from), wireDtype);
    before.receives.push({ ...spec, tensor, from });
  }
  const contributions = allRanks(transfer).map((from) => {
    const name = from === rank ? tensor : arrivedName(from);
    if (wireDtype === dtype) return name;
    const spec = specOf(transfer, `${transfer.from}@unwired${from}`, ...contribution(transfer, from));
    return draft.addOp('Cast', [name], spec, { to: DTYPES[dtype].code });
  });
  if (conversion.kind === 'all-gather') join(draft, transfer, conversion.from, contributions);
  else addUp(draft, transfer, conversion.to, contributions);
};

/** In rank order on every rank, so that all round alike. */
const addUp = (draft: SegmentDraft, transfer: Transfer, to: Placement, addends: readonly string[]): void => {
  let sum = addends[0] ?? '';
  addends.slice(1).forEach((addend, i) => {
    const name = i === addends.length - 2 ? transfer.to : `${transfer.from}@sum${i}`;
    sum = draft.addOp('Add', [sum, addend], specOf(transfer, name, to, transfer.rank));
  });
};

/** Piece by piece, the ranks' parts in rank order. */
const join = (draft: SegmentDraft, transfer: Transfer, shard: Shard, parts: readonly string[]): void => {
  const inOrder = shard.pieces.flatMap((_, piece) =>
    parts.map((part, rank) => pieceOf(draft, transfer, shard, part, rank, piece)),
  );
  const whole = specOf(transfer, transfer.to, REPLICATE, transfer.rank);
  draft.addOp('Concat', inOrder, whole, { axis: shard.axis });
};

const pieceOf = (
  draft: SegmentDraft,
  { shape, dtype, from }: Transfer,
  shard: Shard,
  part: string,
  rank: number,
  piece: number,
): string => {
  if (shard.pieces.length === 1) return part;
  const sizes = shard.pieces.map(({ bounds }) => (bounds[rank + 1] ?? 0) - (bounds[rank] ?? 0));
  const start = sizes.slice(0, piece).reduce((sum, size) => sum + size, 0);
  const size = sizes[piece] ?? 0;
  const local = shape.map((whole, axis) => (axis === shard.axis ? size : whole));
  const spec = { name: `${from}@part${rank}.${piece}`, dtype, shape: local };
  return draft.addStretches(part, shard.axis, [[start, start + size]], spec);
};
