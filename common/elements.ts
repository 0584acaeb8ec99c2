/** Tensors' bytes as numbers and back, for every type that a model's inputs and outputs may have. */
import { getFloat16, setFloat16 } from '@petamoriken/float16';
import { TandemError } from './errors.js';
import { byteLength, DTYPES, type DType, elementCount, type HostTensor, type TensorSpec } from './tensor.js';

const floatBits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;

type Reader = (view: DataView, offset: number) => number;
type Writer = (view: DataView, offset: number, value: number) => void;

interface Codec {
  readonly read: Reader;
  readonly write: Writer;
}

const CODECS: Readonly<Record<DType, Codec>> = {
  float32: { read: (v, o) => v.getFloat32(o, true), write: (v, o, x) => v.setFloat32(o, x, true) },
  float64: { read: (v, o) => v.getFloat64(o, true), write: (v, o, x) => v.setFloat64(o, x, true) },
  float16: { read: (v, o) => getFloat16(v, o, true), write: (v, o, x) => setFloat16(v, o, x, true) },
  bfloat16: {
    read: (v, o) => new Float32Array(Uint32Array.of(v.getUint16(o, true) << 16).buffer)[0] ?? 0,
    write: (v, o, x) => v.setUint16(o, floatBits(x) >>> 16, true),
  },
  int8: { read: (v, o) => v.getInt8(o), write: (v, o, x) => v.setInt8(o, x) },
  uint8: { read: (v, o) => v.getUint8(o), write: (v, o, x) => v.setUint8(o, x) },
  bool: { read: (v, o) => v.getUint8(o), write: (v, o, x) => v.setUint8(o, x === 0 ? 0 : 1) },
  int16: { read: (v, o) => v.getInt16(o, true), write: (v, o, x) => v.setInt16(o, x, true) },
  uint16: { read: (v, o) => v.getUint16(o, true), write: (v, o, x) => v.setUint16(o, x, true) },
  int32: { read: (v, o) => v.getInt32(o, true), write: (v, o, x) => v.setInt32(o, x, true) },
  uint32: { read: (v, o) => v.getUint32(o, true), write: (v, o, x) => v.setUint32(o, x, true) },
  int64: {
    read: (v, o) => Number(v.getBigInt64(o, true)),
    write: (v, o, x) => v.setBigInt64(o, BigInt(Math.round(x)), true),
  },
  uint64: {
    read: (v, o) => Number(v.getBigUint64(o, true)),
    write: (v, o, x) => v.setBigUint64(o, BigInt(Math.round(x)), true),
  },
};

/**
 * A tensor's elements as float64 values, row-major.
 * @throws TandemError `TENSOR_SIZE` where the bytes do not fit the shape
 */
export const toNumbers = (tensor: HostTensor): Float64Array => {
  const expected = byteLength(tensor);
  if (tensor.data.byteLength !== expected) {
    const message = `Expected ${expected} bytes for ${tensor.dtype}[${tensor.shape.join(', ')}]; found ${tensor.data.byteLength}.`;
    throw new TandemError('TENSOR_SIZE', message);
  }
  const view = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  const { read } = CODECS[tensor.dtype];
  const { bytes } = DTYPES[tensor.dtype];
  return Float64Array.from({ length: elementCount(tensor.shape) }, (_, index) => read(view, index * bytes));
};

/** A tensor of these values, rounded to its type. */
export const fromNumbers = (spec: Omit<TensorSpec, 'name'>, values: ArrayLike<number>): HostTensor => {
  const data = new Uint8Array(byteLength(spec));
  const view = new DataView(data.buffer);
  const { write } = CODECS[spec.dtype];
  const { bytes } = DTYPES[spec.dtype];
  for (let index = 0; index < values.length; index++) write(view, index * bytes, values[index] ?? 0);
  return { dtype: spec.dtype, shape: spec.shape, data };
};
