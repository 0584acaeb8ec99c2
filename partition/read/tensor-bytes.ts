/** Tensors of the graph as plain bytes, whichever of ONNX's fields their exporter put the elements in. */
import { TandemError } from '../../common/errors.js';
import { byteLength, DTYPES, type DType, elementCount } from '../../common/tensor.js';
import { DataType, hasRawData, type TensorProto } from '../onnx/index.js';

const NAMES = new Map<number, DType>(Object.entries(DTYPES).map(([name, { code }]) => [code, name as DType]));

/** The element type that an ONNX `DataType` stands for, or undefined where this project has none (strings, fp8, int4 ...). */
export const toDType = (dataType: number): DType | undefined => NAMES.get(dataType);

/** The name of an ONNX `DataType`, for messages. */
export const dataTypeName = (dataType: number): string => DataType[dataType] ?? `type ${dataType}`;

/** Dims as numbers; undefined where one is negative or beyond 2^53. */
export const toShape = (dims: readonly bigint[]): readonly number[] | undefined => {
  const shape = dims.map(Number);
  const whole = [...shape, elementCount(shape)];
  return whole.every((size) => Number.isSafeInteger(size) && size >= 0) ? shape : undefined;
};

/** Elements in a typed field (`float_data` ...), which is how tensors without `raw_data` hold them. */
const typedElements = (tensor: TensorProto, dtype: DType): readonly (number | bigint)[] => {
  switch (dtype) {
    case 'float32':
      return tensor.floatData;
    case 'float64':
      return tensor.doubleData;
    case 'int64':
      return tensor.int64Data;
    case 'uint32':
    case 'uint64':
      return tensor.uint64Data;
    case 'int32':
    case 'int16':
    case 'int8':
    case 'uint16':
    case 'uint8':
    case 'bool':
    case 'float16':
    case 'bfloat16':
      return tensor.int32Data;
    default:
      return dtype satisfies never;
  }
};

/** Bytes that the message itself holds of a tensor: equal to `byteLength` of its type and shape, or the tensor is damaged. */
export const heldBytes = (tensor: TensorProto, dtype: DType): number =>
  hasRawData(tensor) ? tensor.rawData.byteLength : typedElements(tensor, dtype).length * DTYPES[dtype].bytes;

/**
 * The elements of a tensor that lies in the graph, as row-major little-endian bytes. A view where the tensor has `raw_data`.
 * @throws TandemError WEIGHTS_DTYPE for a type that has no `DType`, WEIGHTS_SIZE when the bytes do not fit the shape
 */
export const tensorBytes = (tensor: TensorProto): Uint8Array => {
  const dtype = toDType(tensor.dataType);
  const shape = toShape(tensor.dims);
  if (!dtype) {
    throw new TandemError(
      'WEIGHTS_DTYPE',
      `Tensor "${tensor.name}" has type ${dataTypeName(tensor.dataType)}; expected one of ${Object.keys(DTYPES).join(', ')}.`,
    );
  }
  if (!shape || heldBytes(tensor, dtype) !== byteLength({ dtype, shape })) {
    throw new TandemError(
      'WEIGHTS_SIZE',
      `Tensor "${tensor.name}" holds ${heldBytes(tensor, dtype)} bytes, which is not a ${dtype} of shape [${tensor.dims}].`,
    );
  }
  return hasRawData(tensor) ? tensor.rawData : packElements(typedElements(tensor, dtype), dtype);
};

/** Typed fields widen small types: fp16 and bf16 are bit patterns in `int32_data`, uint32 lies in `uint64_data`. */
const packElements = (elements: readonly (number | bigint)[], dtype: DType): Uint8Array => {
  const { bytes } = DTYPES[dtype];
  const packed = new Uint8Array(elements.length * bytes);
  const view = new DataView(packed.buffer);
  elements.forEach((element, index) => {
    writeElement(view, index * bytes, element, dtype);
  });
  return packed;
};

const writeElement = (view: DataView, offset: number, element: number | bigint, dtype: DType): void => {
  switch (dtype) {
    case 'float32':
      return view.setFloat32(offset, Number(element), true);
    case 'float64':
      return view.setFloat64(offset, Number(element), true);
    case 'int64':
    case 'uint64':
      return view.setBigUint64(offset, BigInt.asUintN(64, BigInt(element)), true);
    case 'int32':
    case 'uint32':
      return view.setUint32(offset, Number(element), true);
    case 'int16':
    case 'uint16':
    case 'float16':
    case 'bfloat16':
      return view.setUint16(offset, Number(element), true);
    case 'int8':
    case 'uint8':
    case 'bool':
      return view.setUint8(offset, Number(element));
    default:
      return dtype satisfies never;
  }
};
