/** Copies slices out of files of any size through two buffers: a block of whole rows is read at once, then compacted. */
import { closeSync, openSync } from 'node:fs';
import { TandemError } from '../../common/errors.js';
import { gather, type Run, type SliceLayout } from '../graph/slice.js';
import { readFully } from '../read/file-window.js';

/** Where a slice's source starts: in a file, or in memory. */
export type SliceOrigin =
  | { readonly kind: 'file'; readonly file: string; readonly offset: number }
  | { readonly kind: 'memory'; readonly data: Uint8Array };

/** A stretch of the source that is read at once, with the runs to take from it. */
interface Block {
  /** From the source's start. */
  readonly offset: number;
  readonly bytes: number;
  readonly rows: number;
  readonly rowBytes: number;
  readonly runs: readonly Run[];
}

/** Longer runs are read one by one, so that what the slice leaves out is not read at all. */
const LONG_RUN_BYTES = 256 * 1024;

/** Splits a slice into blocks of at most `limit` bytes, in the order of the slice's bytes. */
function* blocksOf(layout: SliceLayout, limit: number): Generator<Block> {
  const isLong = widestRow(layout) > limit || layout.runs.every((run) => run.bytes >= LONG_RUN_BYTES);
  yield* isLong ? runBlocks(layout, limit) : rowBlocks(layout, limit);
}

/** Bytes of a row before or after compaction: ranges may overlap, and then a row grows. */
const widestRow = ({ rowBytes, runs }: Pick<SliceLayout, 'rowBytes' | 'runs'>): number =>
  Math.max(rowBytes, totalBytes(runs));

const totalBytes = (runs: readonly Run[]): number => runs.reduce((sum, { bytes }) => sum + bytes, 0);

function* runBlocks({ rows, rowBytes, runs }: SliceLayout, limit: number): Generator<Block> {
  for (let row = 0; row < rows; row++) {
    for (const run of runs) {
      for (let done = 0; done < run.bytes; done += limit) {
        const bytes = Math.min(limit, run.bytes - done);
        const offset = row * rowBytes + run.start + done;
        yield { offset, bytes, rows: 1, rowBytes: bytes, runs: [{ start: 0, bytes }] };
      }
    }
  }
}

function* rowBlocks(layout: SliceLayout, limit: number): Generator<Block> {
  const { rows, rowBytes, runs } = layout;
  const first = Math.min(...runs.map(({ start }) => start));
  const last = Math.max(...runs.map(({ start, bytes }) => start + bytes));
  const relative = runs.map(({ start, bytes }) => ({ start: start - first, bytes }));
  const perBlock = Math.floor(limit / widestRow(layout));
  for (let row = 0; row < rows; row += perBlock) {
    const count = Math.min(perBlock, rows - row);
    const bytes = (count - 1) * rowBytes + last - first;
    yield { offset: row * rowBytes + first, bytes, rows: count, rowBytes, runs: relative };
  }
}

/** Files stay open between slices, for a model has thousands of slices in one file. Reads are synchronous: it runs in a thread. */
export class SliceCopier {
  readonly #blockBytes: number;
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;
  readonly #files = new Map<string, number>();

  /** @param blockBytes size of each of the two buffers */
  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
    this.#input = new Uint8Array(blockBytes);
    this.#output = new Uint8Array(blockBytes);
  }

  /**
   * Hands the slice's bytes to `sink`, piece by piece; a piece is valid during the call only.
   * @throws TandemError WEIGHTS_MISSING, or WEIGHTS_TOO_SHORT when the file ends before the slice does
   */
  copy(origin: SliceOrigin, layout: SliceLayout, sink: (piece: Uint8Array) => void): void {
    for (const block of blocksOf(layout, this.#blockBytes))
      sink(compact(this.#read(origin, block), block, this.#output));
  }

  close(): void {
    for (const fd of this.#files.values()) closeSync(fd);
    this.#files.clear();
  }

  #read(origin: SliceOrigin, { offset, bytes }: Block): Uint8Array {
    if (origin.kind === 'memory') return origin.data.subarray(offset, offset + bytes);
    const target = this.#input.subarray(0, bytes);
    try {
      readFully(this.#open(origin.file), target, origin.offset + offset);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      const end = origin.offset + offset + bytes;
      throw new TandemError(
        'WEIGHTS_TOO_SHORT',
        `Expected "${origin.file}" to have at least ${end} bytes: ${cause.message} Copy or download that file again.`,
      );
    }
    return target;
  }

  #open(file: string): number {
    const known = this.#files.get(file);
    if (known !== undefined) return known;
    const fd = openWeights(file);
    this.#files.set(file, fd);
    return fd;
  }
}

const openWeights = (file: string): number => {
  try {
    return openSync(file, 'r');
  } catch (cause) {
    throw new TandemError(
      'WEIGHTS_MISSING',
      `The weights in "${file}" cannot be opened (${(cause as NodeJS.ErrnoException).code}); put that file beside the model.`,
      { cause },
    );
  }
};

const compact = (input: Uint8Array, block: Block, output: Uint8Array): Uint8Array => {
  if (block.rows === 1 && block.runs.length === 1) return input;
  gather(input, block, output);
  return output.subarray(0, block.rows * totalBytes(block.runs));
};
