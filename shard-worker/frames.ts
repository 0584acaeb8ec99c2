/**
 * The exchange's frames: a tensor crosses as pieces, each a message of two parts, a header of 32 bytes and the payload.
 * The header, little-endian: magic u16, sender u16, segment u32, tensor u16, micro-batch u16, piece u32, step f64, bytes of the
 * whole tensor f64.
 */
import { TandemError } from '../common/errors.js';

/** Tensors cross in pieces of at most this size: 5 MB in 1 MB pieces took half the time of 5 MB whole. */
export const PIECE_BYTES = 1 << 20;
export const MAX_EXCHANGE_FRAME_BYTES = PIECE_BYTES + 1024;

const MAGIC = 0x5444;
export const HEADER_BYTES = 32;

/** Which piece of which tensor of which exchange. */
export interface PieceHeader {
  readonly from: number;
  readonly step: number;
  /** Index in the step. */
  readonly microBatch: number;
  readonly segment: number;
  /** Index in the sender's `sends` of that segment. */
  readonly tensor: number;
  readonly piece: number;
  /** Bytes of the whole tensor. */
  readonly totalBytes: number;
}

/** Where in which step's program a rank is. Micro-batches of a step run through the program each by itself. */
export type Place = Pick<PieceHeader, 'step' | 'microBatch' | 'segment'>;

/** A place as text, for maps and for messages. */
export const placeKey = ({ step, microBatch, segment }: Place): string => `${step}.${microBatch}/${segment}`;

export const encodeHeader = (header: PieceHeader): Buffer => {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES);
  bytes.writeUInt16LE(MAGIC, 0);
  bytes.writeUInt16LE(header.from, 2);
  bytes.writeUInt32LE(header.segment, 4);
  bytes.writeUInt16LE(header.tensor, 8);
  bytes.writeUInt16LE(header.microBatch, 10);
  bytes.writeUInt32LE(header.piece, 12);
  bytes.writeDoubleLE(header.step, 16);
  bytes.writeDoubleLE(header.totalBytes, 24);
  return bytes;
};

/** @throws TandemError `EXCHANGE_FRAME` */
export const decodeHeader = (bytes: Buffer | undefined): PieceHeader => {
  if (bytes?.byteLength !== HEADER_BYTES || bytes.readUInt16LE(0) !== MAGIC) {
    throw new TandemError(
      'EXCHANGE_FRAME',
      `Expected the header of an exchange frame, found ${bytes?.byteLength ?? 0} other bytes; something else writes to the exchange socket.`,
    );
  }
  return {
    from: bytes.readUInt16LE(2),
    segment: bytes.readUInt32LE(4),
    tensor: bytes.readUInt16LE(8),
    microBatch: bytes.readUInt16LE(10),
    piece: bytes.readUInt32LE(12),
    step: bytes.readDoubleLE(16),
    totalBytes: bytes.readDoubleLE(24),
  };
};

/** Number of pieces of a tensor; an empty tensor is one empty piece. */
export const pieceCount = (totalBytes: number): number => Math.max(1, Math.ceil(totalBytes / PIECE_BYTES));

/** A piece of a tensor's bytes, as a view. */
export const pieceOf = (data: Uint8Array, piece: number): Uint8Array =>
  data.subarray(piece * PIECE_BYTES, Math.min((piece + 1) * PIECE_BYTES, data.byteLength));
