/**
 * Sorts a model's tensors into weights, which stay in their files, and small constants, which the graph holds.
 * Afterwards no tensor of the model refers to another file: a weight is an initializer with a name, a type and dims only,
 * and whatever lies deeper (in attributes, subgraphs, functions) has its bytes inline.
 */
import { type ErrorCode, TandemError } from '../../common/errors.js';
import { byteLength, DTYPES, type DType } from '../../common/tensor.js';
import { clearData, DataLocation, type ModelProto, type NodeProto, type TensorProto } from '../onnx/index.js';
import { type ExternalFile, locateExternalFile } from './external-file.js';
import { FileWindow } from './file-window.js';
import { innerTensors } from './inner-tensors.js';
import { INLINE_LIMIT_BYTES, SELF_LOCATION } from './skeleton.js';
import { dataTypeName, heldBytes, toDType, toShape } from './tensor-bytes.js';

/** A weight: `bytes` bytes of row-major little-endian data from `offset` on in `file`. */
export interface WeightSource {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Absolute. */
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

interface Extent {
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
  /** Whether the file exists; where it does, the extent lies within it. */
  readonly present: boolean;
}

/**
 * Resolves all tensors of a model, which it changes.
 * @param path the model file, beside which external data lies
 * @param requireWeights whether a missing file of external data is an error
 * @returns the weights by name, in the order of the graph's initializers
 * @throws TandemError with all the problems: WEIGHTS_MISSING, WEIGHTS_TOO_SHORT, WEIGHTS_SIZE, WEIGHTS_OUTSIDE, WEIGHTS_DTYPE
 * or MODEL_MALFORMED
 */
export const collectWeights = (
  model: ModelProto,
  path: string,
  requireWeights: boolean,
): ReadonlyMap<string, WeightSource> => {
  const collector = new WeightCollector(path, requireWeights);
  try {
    hoistConstants(model);
    for (const tensor of model.graph?.initializer ?? []) collector.initializer(tensor);
    for (const tensor of innerTensors(model)) collector.inner(tensor);
  } finally {
    collector.close();
  }
  collector.throwProblems();
  return collector.weights;
};

const isExternal = (tensor: TensorProto): boolean => tensor.dataLocation === DataLocation.EXTERNAL;

/** Some exporters write weights as Constant nodes; ONNX Runtime treats them as initializers, and so do we. */
const hoistConstants = (model: ModelProto): void => {
  const graph = model.graph;
  if (!graph) return;
  graph.node = graph.node.filter((node) => {
    const weight = constantWeight(node);
    if (weight) graph.initializer.push(weight);
    return !weight;
  });
};

const constantWeight = (node: NodeProto): TensorProto | undefined => {
  const value = node.attribute.find((attribute) => attribute.name === 'value')?.t;
  const isConstant = node.opType === 'Constant' && (node.domain === '' || node.domain === 'ai.onnx');
  if (!isConstant || !value || !isExternal(value)) return undefined;
  return Object.assign(value, { name: node.output[0] ?? '' });
};

/** Whole numbers are indices and sizes, which the planner has to know, and no weights. */
const INDICES_LIMIT_BYTES = 1 << 20;
const inlineLimit = (dtype: DType): number =>
  dtype === 'int64' || dtype === 'int32' ? INDICES_LIMIT_BYTES : INLINE_LIMIT_BYTES;

class WeightCollector {
  readonly weights = new Map<string, WeightSource>();
  readonly #path: string;
  readonly #requireWeights: boolean;
  readonly #names = new Set<string>();
  readonly #files = new Map<string, ExternalFile>();
  readonly #windows = new Map<string, FileWindow>();
  /** One for each kind of problem and file, for a missing file is missed by thousands of tensors. */
  readonly #problems = new Map<string, { readonly code: ErrorCode; readonly text: string; more: number }>();

  constructor(path: string, requireWeights: boolean) {
    this.#path = path;
    this.#requireWeights = requireWeights;
  }

  initializer(tensor: TensorProto): void {
    const { name } = tensor;
    if (this.#names.has(name)) return this.#problem('MODEL_MALFORMED', name, `Two initializers are called "${name}"`);
    this.#names.add(name);
    const spec = this.#spec(tensor);
    if (!spec) return;
    if (!isExternal(tensor)) return this.#checkHeld(tensor, spec);
    const extent = this.#extent(tensor, byteLength(spec));
    if (!extent) return;
    const { present, ...place } = extent;
    if (present && place.bytes <= inlineLimit(spec.dtype)) return this.#load(tensor, place);
    clearData(tensor);
    this.weights.set(name, { name, ...spec, ...place });
  }

  inner(tensor: TensorProto): void {
    if (!isExternal(tensor)) return;
    const spec = this.#spec(tensor);
    const extent = spec && this.#extent(tensor, byteLength(spec));
    if (extent?.present) this.#load(tensor, extent);
  }

  close(): void {
    for (const window of this.#windows.values()) window.close();
  }

  throwProblems(): void {
    const problems = [...this.#problems.values()];
    const [first] = problems;
    if (!first) return;
    const lines = problems.map(({ text, more }) => (more === 0 ? `${text}.` : `${text} (and ${more} more tensors).`));
    throw new TandemError(first.code, `The weights of "${this.#path}" cannot be read. ${lines[0]}`, {
      problems: lines,
    });
  }

  #problem(code: ErrorCode, key: string, text: string): void {
    const known = this.#problems.get(`${code} ${key}`);
    if (known) known.more++;
    else this.#problems.set(`${code} ${key}`, { code, text, more: 0 });
  }

  #spec(tensor: TensorProto): { readonly dtype: DType; readonly shape: readonly number[] } | undefined {
    const dtype = toDType(tensor.dataType);
    const shape = toShape(tensor.dims);
    if (!dtype) {
      const type = dataTypeName(tensor.dataType);
      const supported = Object.keys(DTYPES).join(', ');
      this.#problem(
        'WEIGHTS_DTYPE',
        type,
        `Tensor "${tensor.name}" has the unsupported type ${type}; expected one of ${supported}`,
      );
    }
    if (!shape)
      this.#problem(
        'MODEL_MALFORMED',
        tensor.name,
        `Tensor "${tensor.name}" has the impossible shape [${tensor.dims}]`,
      );
    return dtype && shape && { dtype, shape };
  }

  #checkHeld(tensor: TensorProto, spec: { readonly dtype: DType; readonly shape: readonly number[] }): void {
    const found = heldBytes(tensor, spec.dtype);
    const expected = byteLength(spec);
    if (found === expected) return;
    const what = `${expected} bytes (${spec.dtype} of shape [${spec.shape}]), found ${found}`;
    this.#problem('WEIGHTS_SIZE', tensor.name, `Tensor "${tensor.name}" is damaged: expected ${what}`);
  }

  #extent(tensor: TensorProto, expected: number): Extent | undefined {
    const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
    const location = entries.get('location') ?? '';
    const offset = toBytes(entries.get('offset') ?? '0');
    const length = toBytes(entries.get('length') ?? String(expected));
    if (offset === undefined || length !== expected) {
      const found = `offset "${entries.get('offset') ?? 0}" and length "${entries.get('length')}"`;
      this.#problem(
        'WEIGHTS_SIZE',
        tensor.name,
        `Tensor "${tensor.name}" needs ${expected} bytes, but its external data has ${found}`,
      );
      return undefined;
    }
    return this.#within(tensor.name, location, { offset, bytes: expected });
  }

  #within(
    name: string,
    location: string,
    range: { readonly offset: number; readonly bytes: number },
  ): Extent | undefined {
    const file = this.#locate(location);
    switch (file.kind) {
      case 'refused':
        this.#problem(
          'WEIGHTS_OUTSIDE',
          location,
          `Tensor "${name}" has its data in "${location}", which ${file.reason}; external data must lie in the model's own folder`,
        );
        return undefined;
      case 'missing':
        if (this.#requireWeights) {
          this.#problem(
            'WEIGHTS_MISSING',
            location,
            `Tensor "${name}" has its data in "${file.path}", which does not exist; put that file beside the model`,
          );
        }
        return { ...range, file: file.path, present: false };
      case 'present': {
        const end = range.offset + range.bytes;
        if (end <= file.size) return { ...range, file: file.path, present: true };
        this.#problem(
          'WEIGHTS_TOO_SHORT',
          location,
          `Tensor "${name}" needs "${file.path}" to have at least ${end} bytes, found ${file.size}; copy or download that file again`,
        );
        return undefined;
      }
      default:
        return file satisfies never;
    }
  }

  #locate(location: string): ExternalFile {
    const known = this.#files.get(location);
    if (known) return known;
    const file = location === SELF_LOCATION ? this.#modelFile() : locateExternalFile(this.#path, location);
    this.#files.set(location, file);
    return file;
  }

  #modelFile(): ExternalFile {
    return { kind: 'present', path: this.#path, size: this.#window(this.#path).size };
  }

  #window(file: string): FileWindow {
    const known = this.#windows.get(file);
    if (known) return known;
    const window = new FileWindow(file);
    this.#windows.set(file, window);
    return window;
  }

  #load(
    tensor: TensorProto,
    { file, offset, bytes }: { readonly file: string; readonly offset: number; readonly bytes: number },
  ): void {
    clearData(tensor);
    tensor.rawData = this.#window(file).bytes(offset, offset + bytes);
  }
}

/** A size in decimal digits, as external data has it. */
const toBytes = (digits: string): number | undefined => {
  const value = /^\d+$/.test(digits) ? Number(digits) : undefined;
  return Number.isSafeInteger(value) ? value : undefined;
};
