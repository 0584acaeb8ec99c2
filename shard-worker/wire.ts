/** Control messages to and from bytes: msgpack, then the schemas of `protocol.ts`. Nothing unchecked passes. */
import { Packr } from 'msgpackr';
import type { z } from 'zod';
import { TandemError } from '../common/errors.js';
import { type FromWorker, fromWorker, type ToWorker, toWorker } from './protocol.js';

export { toProblem } from '../common/answer.js';

// Plain maps without records or typed-array extensions: what a message may contain is what msgpack itself defines.
const packr = new Packr({ useRecords: false, moreTypes: false });

/** One frame for a message. Bytes within it are copied. */
export const encodeMessage = (message: ToWorker | FromWorker): Buffer => packr.pack(message);

const parse = <T>(schema: z.ZodType<T>, frame: Uint8Array, sender: string): T => {
  let value: unknown;
  try {
    value = packr.unpack(frame);
  } catch (cause) {
    throw new TandemError(
      'PROTOCOL_MESSAGE',
      `Expected a msgpack message from ${sender}, found ${frame.byteLength} bytes of something else.`,
      {
        cause,
      },
    );
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join('.') || 'message'}: ${issue.message}`);
  throw new TandemError(
    'PROTOCOL_MESSAGE',
    `A message from ${sender} does not follow the protocol (${problems[0]}); run the same Tandem version on both sides.`,
    { problems },
  );
};

/**
 * Reads a frame that came from the coordinator. Bytes in the result may be views of `frame`.
 * @throws TandemError `PROTOCOL_MESSAGE`
 */
export const decodeToWorker = (frame: Uint8Array): ToWorker => parse(toWorker, frame, 'the coordinator');

/**
 * Reads a frame that came from a worker. Bytes in the result may be views of `frame`.
 * @throws TandemError `PROTOCOL_MESSAGE`
 */
export const decodeFromWorker = (frame: Uint8Array, sender: string): FromWorker => parse(fromWorker, frame, sender);
