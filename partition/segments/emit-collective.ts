/**
 * The arithmetic of collectives, as nodes of the segments before and after. A segment ends by casting what it sends to the wire
 * type and cutting it up; the next one begins by adding the ranks' addends in rank order, or joining their parts. A rank takes
 * its own contribution as it went on the wire too: so all ranks hold the same bits.
 */

import { DTYPES, type DType } from '../../common/tensor.js';
import { type Conversion, isMove, type Move, movedRanges } from '../graph/collective.js';
import type { Value } from '../graph/graph.js';
import { localShape, rankRanges, type Shard } from '../graph/placement.js';
import type { Tape } from '../graph/tape.js';
import { intAttribute } from '../onnx/index.js';
import { cutOut } from './cut-out.js';
import type { Received, Sent } from './rank-program.js';

/** One collective of one tensor, as a rank sees it. */
export interface Transfer {
  readonly conversion: Conversion;
  /** Of the whole tensor. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly wireDtype: DType;
  readonly rank: number;
  readonly worldSize: number;
}

/** What passes between a segment and the next one. */
export interface Passing {
  readonly sends: readonly Sent[];
  readonly receives: readonly Received[];
  /** Each rank's, as it was on the wire; this rank keeps its own. Of a rank that has nothing for this one there is none. */
  readonly contributions: readonly (Value | undefined)[];
}

const allRanks = ({ worldSize }: Transfer): readonly number[] => Array.from({ length: worldSize }, (_, rank) => rank);

const convert = (tape: Tape, name: string, value: Value, dtype: DType): Value =>
  value.dtype === dtype
    ? value
    : tape.add('Cast', [value], tape.value(name, 'Cast', dtype, value.shape ?? []), [
        intAttribute('to', DTYPES[dtype].code),
      ]);

/** Shape of what `from` contributes. */
const contributionShape = ({ conversion, shape, rank }: Transfer, from: number): readonly number[] =>
  conversion.kind === 'reduce-scatter'
    ? localShape(shape, conversion.to, rank)
    : localShape(shape, conversion.from, from);

/** What `from` sends `to` of a tensor that moves, as a shape; undefined where it is nothing. */
const movedShape = ({ shape }: Transfer, one: Move, from: number, to: number): readonly number[] | undefined => {
  const { axis, ranges } = movedRanges(one, from, to);
  if (ranges.length === 0) return undefined;
  const size = ranges.reduce((sum, [start, end]) => sum + end - start, 0);
  return localShape(shape, one.from, from).map((old, other) => (other === axis ? size : old));
};

/** A rank keeps its own part as it is: nobody else has it. */
const sendMoved = (tape: Tape, transfer: Transfer, one: Move, value: Value): Passing => {
  const { conversion: of, name, rank, wireDtype } = transfer;
  const cut = (whole: Value, to: number): Value | undefined => {
    const { axis, ranges } = movedRanges(one, rank, to);
    const isAll = localShape(transfer.shape, one.from, rank).join() === movedShape(transfer, one, rank, to)?.join();
    return ranges.length === 0 ? undefined : isAll ? whole : cutOut(tape, whole, axis, ranges);
  };
  const peers = allRanks(transfer).filter((peer) => peer !== rank);
  const sends = peers.flatMap((to) => {
    const part = cut(value, to);
    return part ? [{ of, value: convert(tape, name, part, wireDtype), to: [to] }] : [];
  });
  const contributions = allRanks(transfer).map((from): Value | undefined => {
    if (from === rank) return cut(value, rank);
    const shape = movedShape(transfer, one, from, rank);
    return shape && { name: `${name}@from${from}`, dtype: wireDtype, shape };
  });
  const receives = peers.flatMap((from) => {
    const arrived = contributions[from];
    return arrived ? [{ of, value: arrived, from }] : [];
  });
  return { sends, receives, contributions };
};

/** Ends a segment: what the rank contributes of `value`, in the wire type. */
export const emitSend = (tape: Tape, transfer: Transfer, value: Value): Passing => {
  const { conversion: of, name, rank, wireDtype } = transfer;
  if (isMove(of)) return sendMoved(tape, transfer, of, value);
  const wire = convert(tape, name, value, wireDtype);
  const parts = allRanks(transfer).map((to) =>
    of.kind === 'reduce-scatter' ? cutOut(tape, wire, of.to.axis, rankRanges(of.to, to)) : wire,
  );
  const contributions = parts.map((own, from): Value => {
    const arrives = { name: `${name}@from${from}`, dtype: wireDtype, shape: contributionShape(transfer, from) };
    return from === rank ? own : arrives;
  });
  const peers = allRanks(transfer).filter((peer) => peer !== rank);
  const sends =
    of.kind === 'reduce-scatter'
      ? peers.map((to) => ({ of, value: parts[to] ?? wire, to: [to] }))
      : [{ of, value: wire, to: peers }];
  const receives = peers.flatMap((from) => {
    const arrived = contributions[from];
    return arrived ? [{ of, value: arrived, from }] : [];
  });
  return { sends, receives, contributions };
};

/** Begins the segment after the one that sent. @param result the tensor made of all contributions */
export const emitReceive = (tape: Tape, transfer: Transfer, { contributions }: Passing, result: Value): void => {
  const { conversion, name, dtype } = transfer;
  const parts = contributions.map((part) => part && convert(tape, name, part, dtype));
  const there = parts.filter((part) => part !== undefined);
  if (conversion.kind === 'halo') tape.add('Concat', there, result, [intAttribute('axis', conversion.to.axis)]);
  else if (conversion.kind === 'all-gather' || conversion.kind === 'all-to-all')
    join(tape, conversion.from, there, result);
  else addUp(tape, there, result);
};

/** In rank order on every rank, so that all round alike. */
const addUp = (tape: Tape, [first, ...others]: readonly Value[], result: Value): void => {
  const { name, dtype, shape = [] } = result;
  let sum = first;
  for (const [i, addend] of others.entries()) {
    const isLast = i === others.length - 1;
    sum = tape.add('Add', [sum, addend], isLast ? result : tape.value(name, 'sum', dtype, shape));
  }
};

/** Piece by piece, the ranks' parts in rank order. */
const join = (tape: Tape, shard: Shard, parts: readonly Value[], result: Value): void => {
  const inOrder = shard.pieces.flatMap((_, piece) =>
    parts.map((part, rank) => pieceOf(tape, shard, part, rank, piece)),
  );
  tape.add('Concat', inOrder, result, [intAttribute('axis', shard.axis)]);
};

const pieceOf = (tape: Tape, shard: Shard, part: Value, rank: number, piece: number): Value => {
  if (shard.pieces.length === 1) return part;
  const sizes = shard.pieces.map(({ bounds }) => (bounds[rank + 1] ?? 0) - (bounds[rank] ?? 0));
  const start = sizes.slice(0, piece).reduce((sum, size) => sum + size, 0);
  return cutOut(tape, part, shard.axis, [[start, start + (sizes[piece] ?? 0)]]);
};
