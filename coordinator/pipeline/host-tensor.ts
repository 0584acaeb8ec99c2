/**
 * Between the pipeline's float32 and whole numbers and whatever element type a model wants: half-precision models are
 * cast at this edge and nowhere else.
 */
import { Float16Array } from '@petamoriken/float16';
import { TandemError } from '../../common/errors.js';
import { type DType, elementCount, type HostTensor } from '../../common/tensor.js';
import { TENSOR_TYPE } from './errors.js';

const bytesOf = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

const unsupportedType = (dtype: DType): TandemError =>
  new TandemError(
    TENSOR_TYPE,
    `Expected an input or output of type float32, float16, float64, int64, int32 or bool, found ${dtype}. Export the model with one of these.`,
  );

const encode = (values: readonly number[] | Float32Array, dtype: DType): Uint8Array => {
  switch (dtype) {
    case 'float32':
      return bytesOf(values instanceof Float32Array ? values : Float32Array.from(values));
    case 'float16':
      return bytesOf(Float16Array.from(values) as unknown as ArrayBufferView);
    case 'float64':
      return bytesOf(Float64Array.from(values));
    case 'int64':
      return bytesOf(BigInt64Array.from(values as readonly number[], (value) => BigInt(value)));
    case 'int32':
      return bytesOf(Int32Array.from(values));
    case 'bool':
      return bytesOf(Uint8Array.from(values));
    default:
      throw unsupportedType(dtype);
  }
};

/**
 * A tensor of these values in the type that a model wants.
 * @param values whole numbers where `dtype` is an integer type
 * @throws TandemError `TENSOR_TYPE` for a type that the pipeline does not feed
 */
export const toHostTensor = (
  values: readonly number[] | Float32Array,
  dtype: DType,
  shape: readonly number[],
): HostTensor => {
  if (values.length !== elementCount(shape))
    throw new RangeError(`${values.length} values do not fill a tensor of shape [${shape.join(', ')}].`);
  return { dtype, shape, data: encode(values, dtype) };
};

/** The bytes as a buffer of their own, because a typed array must start at a multiple of its element size. */
const ownBuffer = (data: Uint8Array): ArrayBuffer => new Uint8Array(data).buffer;

/**
 * The values of a floating-point tensor in float32; always a copy.
 * @throws TandemError `TENSOR_TYPE` for a type that the pipeline does not read
 */
export const toFloat32 = (tensor: HostTensor): Float32Array => {
  const buffer = ownBuffer(tensor.data);
  switch (tensor.dtype) {
    case 'float32':
      return new Float32Array(buffer);
    case 'float16':
      return Float32Array.from(new Float16Array(buffer));
    case 'float64':
      return Float32Array.from(new Float64Array(buffer));
    default:
      throw unsupportedType(tensor.dtype);
  }
};

/** Tensors of equal type and shape stacked along their first axis. */
export const concatenateBatch = (tensors: readonly HostTensor[]): HostTensor => {
  const [first] = tensors;
  if (first === undefined) throw new RangeError('Nothing to concatenate.');
  const [batch = 1, ...rest] = first.shape;
  return {
    dtype: first.dtype,
    shape: [batch * tensors.length, ...rest],
    data: Buffer.concat(tensors.map(({ data }) => data)),
  };
};
