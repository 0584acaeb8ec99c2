/** Tensors as plain data: what crosses a thread, a socket or a folder boundary. */

/** Element types, by ONNX Runtime's names. */
export const DTYPES = {
  float32: { code: 1, bytes: 4 },
  uint8: { code: 2, bytes: 1 },
  int8: { code: 3, bytes: 1 },
  uint16: { code: 4, bytes: 2 },
  int16: { code: 5, bytes: 2 },
  int32: { code: 6, bytes: 4 },
  int64: { code: 7, bytes: 8 },
  bool: { code: 9, bytes: 1 },
  float16: { code: 10, bytes: 2 },
  float64: { code: 11, bytes: 8 },
  uint32: { code: 12, bytes: 4 },
  uint64: { code: 13, bytes: 8 },
  bfloat16: { code: 16, bytes: 2 },
} as const;

export type DType = keyof typeof DTYPES;

/** Name, element type and static shape of a tensor. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** What is known of a shape before it is there: null for a size, or for all of them and their number, that only a run tells. */
export type OpenShape = readonly (number | null)[] | null;

/** Like `TensorSpec`, but some of the shape may be known at run time only. */
export interface OpenSpec {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: OpenShape;
}

export const isKnownShape = (shape: OpenShape): shape is readonly number[] =>
  shape?.every((size) => size !== null) ?? false;

export const isKnownSpec = (spec: OpenSpec): spec is TensorSpec => isKnownShape(spec.shape);

/** A tensor in host memory: row-major, little-endian bytes. `data.byteLength` is `elements * bytes per element`. */
export interface HostTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Number of elements of a static shape; 1 for a scalar. */
export const elementCount = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** Size in bytes of a tensor with this type and shape. */
export const byteLength = (spec: { readonly dtype: DType; readonly shape: readonly number[] }): number =>
  elementCount(spec.shape) * DTYPES[spec.dtype].bytes;
