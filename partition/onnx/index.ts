/**
 * ONNX files as typed messages: the only code that imports the protobuf library. Everyone else decodes, makes and
 * encodes messages with the functions below and otherwise treats them as plain objects.
 *
 * A field that is absent reads as its default (`''`, `0n`, empty bytes); `hasRawData` and the like tell absence apart.
 */
import { clearField, clone, create, fromBinary, isFieldSet, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from './gen/onnx_pb.js';

export type {
  AttributeProto,
  FunctionProto,
  GraphProto,
  ModelProto,
  NodeProto,
  OperatorSetIdProto,
  SparseTensorProto,
  StringStringEntryProto,
  TensorProto,
  TensorShapeProto,
  TensorShapeProto_Dimension,
  TypeProto,
  ValueInfoProto,
} from './gen/onnx_pb.js';
export { AttributeType, DataLocation, DataType };

/**
 * Decodes a whole ONNX model. Bytes of tensors are views into `bytes`, not copies.
 * @throws Error from the protobuf library when the bytes are not a `ModelProto`
 */
export const decodeModel = (bytes: Uint8Array): ModelProto => fromBinary(ModelProtoSchema, bytes);

/** Encodes a model as the bytes of an ONNX file; unknown fields that came with it are kept. */
export const encodeModel = (model: ModelProto): Uint8Array<ArrayBuffer> => toBinary(ModelProtoSchema, model);

/** Encodes one tensor message, without a name or length before it. */
export const encodeTensor = (tensor: TensorProto): Uint8Array<ArrayBuffer> => toBinary(TensorProtoSchema, tensor);

/** Makes a model; fields not given are absent. Plain objects may stand for nested messages. */
export const createModel = (init: MessageInitShape<typeof ModelProtoSchema>): ModelProto =>
  create(ModelProtoSchema, init);

export const createGraph = (init: MessageInitShape<typeof GraphProtoSchema>): GraphProto =>
  create(GraphProtoSchema, init);

export const createNode = (init: MessageInitShape<typeof NodeProtoSchema>): NodeProto => create(NodeProtoSchema, init);

export const createTensor = (init: MessageInitShape<typeof TensorProtoSchema>): TensorProto =>
  create(TensorProtoSchema, init);

/**
 * Makes the declaration of a tensor.
 * @param dataType an ONNX `DataType`
 * @param shape a number is a fixed dim, a string a symbolic one, null an unknown one; no shape means that not even the rank is known
 */
export const createValueInfo = (
  name: string,
  dataType: number,
  shape: readonly (number | string | null)[] | null | undefined,
): ValueInfoProto =>
  create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: shape ? { elemType: dataType, shape: { dim: shape.map(toDim) } } : { elemType: dataType },
      },
    },
  });

const toDim = (size: number | string | null) => {
  if (size === null) return {};
  return typeof size === 'number'
    ? { value: { case: 'dimValue', value: BigInt(size) } as const }
    : { value: { case: 'dimParam', value: size } as const };
};

export const intAttribute = (name: string, value: number | bigint): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });

export const intsAttribute = (name: string, values: readonly (number | bigint)[]): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: values.map(BigInt) });

export const floatAttribute = (name: string, value: number): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: value });

export const stringAttribute = (name: string, value: string): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) });

export const tensorAttribute = (name: string, value: TensorProto): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.TENSOR, t: value });

/** Deep copies, for passes that change what they were given. */
export const cloneModel = (model: ModelProto): ModelProto => clone(ModelProtoSchema, model);
export const cloneNode = (node: NodeProto): NodeProto => clone(NodeProtoSchema, node);
export const cloneTensor = (tensor: TensorProto): TensorProto => clone(TensorProtoSchema, tensor);

/**
 * The same model with other initializers; everything else is shared with `model`, which stays as it is.
 */
export const withInitializers = (model: ModelProto, initializer: readonly TensorProto[]): ModelProto => {
  const graph = Object.assign(create(GraphProtoSchema), model.graph, { initializer });
  return Object.assign(create(ModelProtoSchema), model, { graph });
};

/**
 * Gives a tensor data in another file. Changes `tensor`.
 * @param location of that file, relative to the model's folder
 */
export const setExternalData = (tensor: TensorProto, location: string, offset: number, bytes: number): void => {
  tensor.dataLocation = DataLocation.EXTERNAL;
  tensor.externalData = Object.entries({ location, offset, length: bytes }).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value: String(value) }),
  );
};

/** Whether the tensor has `raw_data`, be it empty. */
export const hasRawData = (tensor: TensorProto): boolean => isFieldSet(tensor, TensorProtoSchema.field.rawData);

/** Forgets where a tensor's elements are: neither `raw_data` nor external data remains. Changes `tensor`. */
export const clearData = (tensor: TensorProto): void => {
  clearField(tensor, TensorProtoSchema.field.rawData);
  clearField(tensor, TensorProtoSchema.field.dataLocation);
  tensor.externalData = [];
};
