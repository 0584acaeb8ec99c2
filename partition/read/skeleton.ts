/**
 * A model file without its weights. A protobuf library decodes a message from memory, but a model may hold gigabytes, so
 * this walks the wire format of the few messages on the way to large tensors (model, graph, initializer or node,
 * attribute, tensor), copies everything but large `raw_data`, and leaves in its place external data that points into
 * the model file itself. What comes out is a small, ordinary ONNX model.
 *
 * Wire format: https://protobuf.dev/programming-guides/encoding/
 */
import { TandemError } from '../../common/errors.js';
import { createTensor, encodeTensor, setExternalData } from '../onnx/index.js';
import { FileWindow } from './file-window.js';

/** Larger tensors stay in their file. */
export const INLINE_LIMIT_BYTES = 1024;

/** Protobuf's own limit for a message, which what stays in memory must keep to. */
const COPY_LIMIT_BYTES = 2 ** 31 - 1;

/** The `location` of a tensor whose bytes lie in the model file; no file's name holds a zero character. */
export const SELF_LOCATION = '\0';

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

type MessageKind = 'model' | 'graph' | 'node' | 'attribute' | 'tensor';

/** Field numbers of the messages to walk into. */
const CHILDREN: Readonly<Record<MessageKind, Readonly<Record<number, MessageKind>>>> = {
  model: { 7: 'graph' },
  graph: { 1: 'node', 5: 'tensor' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor' },
  tensor: {},
};
const IR_VERSION_FIELD = 1;
const RAW_DATA_FIELD = 9;

/** Wire types of ModelProto's fields; a file that uses these numbers otherwise is of some other kind. */
const MODEL_FIELDS: Readonly<Record<number, number>> = {
  1: WIRE.varint,
  2: WIRE.bytes,
  3: WIRE.bytes,
  4: WIRE.bytes,
  5: WIRE.varint,
  6: WIRE.bytes,
  7: WIRE.bytes,
  8: WIRE.bytes,
  14: WIRE.bytes,
  20: WIRE.bytes,
  25: WIRE.bytes,
  26: WIRE.bytes,
};

interface Field {
  readonly number: number;
  readonly wire: number;
  /** Offsets in the file: of the tag, of the value (behind a length) and of what follows. */
  readonly start: number;
  readonly value: number;
  readonly end: number;
}

/**
 * Reads a model file, large `raw_data` left out.
 * @returns the bytes of an ONNX model
 * @throws TandemError MODEL_NOT_ONNX, MODEL_TRUNCATED or MODEL_MALFORMED
 */
export const readSkeleton = (path: string): Uint8Array => {
  const window = new FileWindow(path);
  try {
    return concatenate(new SkeletonReader(path, window).model());
  } finally {
    window.close();
  }
};

class SkeletonReader {
  readonly #path: string;
  readonly #window: FileWindow;
  /** Nothing else about a file says "ONNX": it has no magic bytes. */
  #sawVersion = false;

  constructor(path: string, window: FileWindow) {
    this.#path = path;
    this.#window = window;
  }

  /** The bytes of the whole file, in pieces. */
  model(): readonly Uint8Array[] {
    const pieces = this.#message('model', 0, this.#window.size);
    return this.#sawVersion ? pieces : this.#notOnnx();
  }

  /** The bytes of the message at `[start, end)`, in pieces. */
  #message(kind: MessageKind, start: number, end: number): readonly Uint8Array[] {
    const pieces: Uint8Array[] = [];
    let copyFrom = start;
    let position = start;
    while (position < end) {
      const field = this.#field(position, end);
      if (kind === 'model') this.#checkModelField(field);
      const replacement = this.#replacement(kind, field);
      if (replacement) {
        if (field.start > copyFrom) pieces.push(this.#copy(copyFrom, field.start));
        for (const piece of replacement) pieces.push(piece);
        copyFrom = field.end;
      }
      position = field.end;
    }
    if (end > copyFrom) pieces.push(this.#copy(copyFrom, end));
    return pieces;
  }

  #copy(start: number, end: number): Uint8Array {
    if (end - start <= COPY_LIMIT_BYTES) return this.#window.bytes(start, end);
    return this.#malformed(start, `${end - start} bytes that are not a tensor's raw_data`);
  }

  /** What stands for a field that is not copied as it is. */
  #replacement(kind: MessageKind, field: Field): readonly Uint8Array[] | undefined {
    const bytes = field.end - field.value;
    if (field.wire !== WIRE.bytes || bytes <= INLINE_LIMIT_BYTES) return undefined;
    if (kind === 'tensor' && field.number === RAW_DATA_FIELD) return [pointIntoModelFile(field.value, bytes)];
    const child = CHILDREN[kind][field.number];
    if (!child) return undefined;
    const pieces = this.#message(child, field.value, field.end);
    return [varint(field.number * 8 + WIRE.bytes), varint(sizeOf(pieces)), ...pieces];
  }

  #field(start: number, end: number): Field {
    const tag = this.#varint(start, end);
    const number = Math.floor(tag.value / 8);
    const wire = tag.value % 8;
    if (number === 0) return this.#malformed(start, 'field number 0');
    const [value, valueEnd] = this.#extent(wire, tag.end, end);
    if (valueEnd > end) return this.#overrun(start, end, valueEnd);
    return { number, wire, start, value, end: valueEnd };
  }

  #extent(wire: number, start: number, end: number): readonly [value: number, end: number] {
    switch (wire) {
      case WIRE.varint:
        return [start, this.#varint(start, end).end];
      case WIRE.fixed64:
        return [start, start + 8];
      case WIRE.fixed32:
        return [start, start + 4];
      case WIRE.bytes: {
        const length = this.#varint(start, end);
        return [length.end, length.end + length.value];
      }
      default:
        return this.#malformed(start, `wire type ${wire}`);
    }
  }

  /** A varint's value, rounded above 2^53 (which only negative numbers and nonsense reach), and its end. */
  #varint(start: number, end: number): { readonly value: number; readonly end: number } {
    let value = 0;
    for (let index = 0; index < 10; index++) {
      const byte = start + index < end ? this.#window.byte(start + index) : undefined;
      if (byte === undefined) return this.#overrun(start, end, start + index + 1);
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return { value, end: start + index + 1 };
    }
    return this.#malformed(start, 'a number of more than 10 bytes');
  }

  #checkModelField(field: Field): void {
    const expected = MODEL_FIELDS[field.number];
    if (expected === undefined ? !this.#sawVersion : expected !== field.wire) {
      this.#malformed(field.start, `field ${field.number} of wire type ${field.wire}`);
    }
    if (field.number === IR_VERSION_FIELD) this.#sawVersion = true;
  }

  /** A value that reaches past its message: past the file's end, the file was cut. */
  #overrun(start: number, end: number, wanted: number): never {
    if (!this.#sawVersion) return this.#notOnnx();
    if (end < this.#window.size) {
      return this.#malformed(
        start,
        `a value that ends at byte ${wanted}, outside its message, which ends at byte ${end}`,
      );
    }
    throw new TandemError(
      'MODEL_TRUNCATED',
      `"${this.#path}" is cut off: expected at least ${wanted} bytes, found ${this.#window.size}. Copy or export the file again.`,
    );
  }

  #malformed(offset: number, what: string): never {
    if (!this.#sawVersion) return this.#notOnnx();
    throw new TandemError(
      'MODEL_MALFORMED',
      `"${this.#path}" is damaged: expected a field of an ONNX model at byte ${offset}, found ${what}. Copy or export the file again.`,
    );
  }

  #notOnnx(): never {
    const head = this.#window.bytes(0, Math.min(this.#window.size, 64));
    throw new TandemError('MODEL_NOT_ONNX', `"${this.#path}" is not an ONNX model: ${describeContent(head)}.`);
  }
}

/** What a file that is not a model looks like, and what to do about it. */
const describeContent = (head: Uint8Array): string => {
  if (head.byteLength === 0) return 'expected a protobuf message, found an empty file; export the model again';
  const text = new TextDecoder().decode(head);
  if (text.startsWith('version https://git-lfs')) {
    return 'found a Git LFS pointer in its place; fetch the real file with "git lfs pull"';
  }
  const found = /^[\t\n\r\x20-\x7e]*$/.test(text) ? 'text' : `other data (first bytes ${hex(head.subarray(0, 8))})`;
  return `expected a protobuf message, found ${found}; give the .onnx file that an exporter wrote`;
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex').replace(/../g, '$& ').trim();

const pointIntoModelFile = (offset: number, bytes: number): Uint8Array => {
  const pointer = createTensor({});
  setExternalData(pointer, SELF_LOCATION, offset, bytes);
  return encodeTensor(pointer);
};

const varint = (value: number): Uint8Array => {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Uint8Array.from([...bytes, rest]);
};

const sizeOf = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, piece) => sum + piece.byteLength, 0);

const concatenate = (pieces: readonly Uint8Array[]): Uint8Array => {
  const whole = new Uint8Array(sizeOf(pieces));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.byteLength;
  }
  return whole;
};
