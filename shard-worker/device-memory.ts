/** Out of memory on a device, told by what did not fit: ONNX Runtime says that an allocation failed, and not whose it was. */
import { TandemError } from '../common/errors.js';
import { byteLength, isKnownSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';

const OUT_OF_MEMORY =
  /out of (device |host )?memory|failed to allocate|bad_?alloc|allocation failed|not enough memory|exceeds the max.*(buffer|binding)|buffer size .*(exceed|larger)/i;

/** Bytes of what a segment makes. */
const madeBytes = ({ outputs }: SegmentEntry): number =>
  outputs.reduce((sum, spec) => sum + (isKnownSpec(spec) ? byteLength(spec) : 0), 0);

/**
 * @param doing what failed: `open` or `run`
 * @returns undefined where it was something else
 */
export const outOfMemory = (
  cause: unknown,
  doing: 'open' | 'run',
  entry: SegmentEntry,
  weightBytes?: number,
): TandemError | undefined => {
  const why = cause instanceof Error ? cause.message.trim() : String(cause);
  if (!OUT_OF_MEMORY.test(why)) return undefined;
  const weights = weightBytes === undefined ? '' : `, ${weightBytes} bytes of weights of this rank in all`;
  return new TandemError(
    'DEVICE_MEMORY',
    `Expected memory to ${doing} segment "${entry.file}", which makes ${madeBytes(entry)} bytes${weights}; the device has none left: ${why}. Use more devices, a smaller picture, or give this rank a lower memory_limit.`,
    { cause },
  );
};
