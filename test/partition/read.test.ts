import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  DataType,
  decodeModel,
  encodeModel,
  hasRawData,
  type ModelProto,
} from '#tandem/partition/onnx/index.js';
import { readModel, type SourceModel, tensorBytes, type WeightSource } from '#tandem/partition/read/index.js';
import { graphOnly, materialise } from '../fixtures/materialise.js';
import { testDirectory } from '../support/directory.js';
import {
  BIG,
  CONSTANT,
  externalModel,
  externalTensor,
  inlineModel,
  pattern,
  rawTensor,
  SMALL,
  saveModel,
} from './read-models.js';

const read = (path: string): Promise<SourceModel> => readModel(path, { requireWeights: true });

const bytesOf = ({ file, offset, bytes }: WeightSource): Uint8Array => {
  const data = new Uint8Array(bytes);
  const fd = openSync(file, 'r');
  readSync(fd, data, 0, bytes, offset);
  closeSync(fd);
  return data;
};

const initializerOf = (source: SourceModel, name: string) => {
  const found = source.model.graph?.initializer.find((tensor) => tensor.name === name);
  if (!found) throw new Error(`There is no initializer "${name}".`);
  return found;
};

const onlyNode = (model: ModelProto) => {
  const [node] = model.graph?.node ?? [];
  if (!node) throw new Error('There is no node.');
  return node;
};

const saveExternal = (folder: string): string => {
  const { model, weights } = externalModel();
  return saveModel(folder, model, { 'weights.bin': weights });
};

describe.each([
  ['in the model file', (folder: string) => saveModel(folder, inlineModel())],
  ['in an external file', saveExternal],
])('a model with its weights %s', (_, save) => {
  test('leaves tensors over 1 KiB where they are and says where that is', async () => {
    const { weights, model } = await read(save(testDirectory()));
    expect([...weights.keys()]).toEqual(['big', 'constant']);
    const big = weights.get('big');
    expect(big).toMatchObject({ name: 'big', dtype: 'float32', shape: [32, 16], bytes: BIG.byteLength });
    expect(big && bytesOf(big)).toEqual(BIG);
    expect(model.graph?.initializer.map(({ name }) => name)).toEqual(['big', 'small', 'constant']);
  });

  test('keeps name, type and dims of a weight, and the bytes of a small tensor, in the graph', async () => {
    const source = await read(save(testDirectory()));
    const big = initializerOf(source, 'big');
    expect(big).toMatchObject({ dims: [32n, 16n], dataType: DataType.FLOAT, externalData: [] });
    expect(hasRawData(big)).toBe(false);
    expect(tensorBytes(initializerOf(source, 'small'))).toEqual(SMALL);
  });

  test('turns a large Constant node into an initializer', async () => {
    const { weights, model } = await read(save(testDirectory()));
    expect(model.graph?.node.map(({ opType }) => opType)).toEqual(['MatMul', 'Add', 'MatMul']);
    const constant = weights.get('constant');
    expect(constant && bytesOf(constant)).toEqual(CONSTANT);
  });
});

test('gives the same digest wherever the weights lie', async () => {
  const inline = await read(saveModel(testDirectory(), inlineModel()));
  const external = await read(saveExternal(testDirectory()));
  expect(await inline.digest()).toMatch(/^[0-9a-f]{64}$/);
  expect(await external.digest()).toBe(await inline.digest());
});

test('gives another digest when one byte of a weight differs, and reports progress in bytes', async () => {
  const folder = testDirectory();
  const path = saveExternal(folder);
  const before = await (await read(path)).digest();
  const { weights } = externalModel();
  weights[100] = (weights[100] ?? 0) ^ 1;
  writeFileSync(join(folder, 'weights.bin'), weights);
  const seen: number[][] = [];
  expect(await (await read(path)).digest({ onProgress: (...step) => seen.push(step) })).not.toBe(before);
  const total = BIG.byteLength + CONSTANT.byteLength;
  expect(seen.at(-1)).toEqual([total, total]);
});

test('stops digesting when its signal aborts', async () => {
  const source = await read(saveExternal(testDirectory()));
  await expect(source.digest({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
});

test('keeps dims of zero, symbolic dims, unknown dims and an unknown rank apart', async () => {
  const model = inlineModel();
  const graph = model.graph;
  if (!graph) throw new Error('There is no graph.');
  const scalar = createValueInfo('scalar', DataType.FLOAT, []);
  graph.input.push(createValueInfo('zero', DataType.FLOAT, [0, 'n']), scalar, createValueInfo('any', 1, undefined));
  const { model: found } = await read(saveModel(testDirectory(), model));
  const shapes = found.graph?.input.slice(1).map(({ type }) => type?.value.value?.shape?.dim.map(({ value }) => value));
  expect(shapes).toEqual([
    [
      { case: 'dimValue', value: 0n },
      { case: 'dimParam', value: 'n' },
    ],
    [],
    undefined,
  ]);
});

test('keeps fields that it does not know', () => {
  // A ValueInfoProto "s" of type sequence (TypeProto field 4) of tensors of floats.
  const sequence = Uint8Array.of(0x0a, 0x01, 0x73, 0x12, 0x08, 0x22, 0x06, 0x0a, 0x04, 0x0a, 0x02, 0x08, 0x01);
  const graph = Uint8Array.of(0x62, sequence.byteLength, ...sequence);
  const bytes = Uint8Array.of(0x08, 0x08, 0x3a, graph.byteLength, ...graph);
  expect(encodeModel(decodeModel(bytes))).toEqual(bytes);
});

test('keeps sparse initializers and the tensors of subgraphs inline, wherever their bytes were', async () => {
  const branch = createGraph({
    name: 'then',
    initializer: [externalTensor('inner', [300], 'weights.bin', 8, 1200), rawTensor('near', [300], pattern(1200, 9))],
    output: [createValueInfo('inner', DataType.FLOAT, [300])],
  });
  const model = createModel({
    irVersion: 8n,
    opsetImport: [{ domain: 'ai.onnx', version: 17n }],
    graph: createGraph({
      node: [
        createNode({ opType: 'If', input: ['c'], output: ['y'], attribute: [{ name: 'then_branch', g: branch }] }),
      ],
      sparseInitializer: [{ values: rawTensor('sparse', [1], pattern(4)), dims: [9n] }],
      input: [createValueInfo('c', DataType.BOOL, [])],
      output: [createValueInfo('y', DataType.FLOAT, [300])],
    }),
  });
  const file = pattern(1208, 4);
  const source = await read(saveModel(testDirectory(), model, { 'weights.bin': file }));
  const inner = onlyNode(source.model).attribute[0]?.g?.initializer ?? [];
  expect(inner.map(tensorBytes)).toEqual([file.subarray(8), pattern(1200, 9)]);
  expect(source.model.graph?.sparseInitializer[0]?.values?.rawData).toEqual(pattern(4));
  expect(source.weights.size).toBe(0);
});

test.each([
  ['float_data', { dataType: DataType.FLOAT, floatData: [1.5, -2] }, new Float32Array([1.5, -2])],
  ['int64_data', { dataType: DataType.INT64, int64Data: [-3n, 4n] }, new BigInt64Array([-3n, 4n])],
  ['int32_data of int8', { dataType: DataType.INT8, int32Data: [-1, 7] }, new Int8Array([-1, 7])],
  [
    'int32_data of float16',
    { dataType: DataType.FLOAT16, int32Data: [0x3c00, 0xc000] },
    new Uint16Array([0x3c00, 0xc000]),
  ],
  ['int32_data of bool', { dataType: DataType.BOOL, int32Data: [1, 0] }, new Uint8Array([1, 0])],
  ['uint64_data of uint32', { dataType: DataType.UINT32, uint64Data: [1n, 2n] }, new Uint32Array([1, 2])],
  ['double_data', { dataType: DataType.DOUBLE, doubleData: [0.1, 2] }, new Float64Array([0.1, 2])],
])('gives the bytes of %s', (_, init, expected) => {
  const found = tensorBytes(createTensor({ name: 't', dims: [2n], ...init }));
  expect(found).toEqual(new Uint8Array(expected.buffer));
});

describe('real exports', () => {
  const NAMES = ['tiny-ts14', 'tiny-ts17-sym', 'tiny-dynamo18', 'tiny-oldattn-ts14', 'sd15-ts17', 'sdxl-ts17'] as const;

  test.each(NAMES)('reads the graph of %s without its weights', async (name) => {
    const path = await graphOnly(name, testDirectory());
    const { model, weights } = await readModel(path, { requireWeights: false });
    const onnx = decodeModel(readFileSync(path));
    const expected = onnx.graph?.initializer.filter(({ externalData }) => externalData.length > 0);
    expect([...weights.keys()]).toEqual(expect.arrayContaining(expected?.map((tensor) => tensor.name) ?? []));
    expect(model.graph?.output).toEqual(onnx.graph?.output);
    await expect(readModel(path, { requireWeights: true })).rejects.toMatchObject({ code: 'WEIGHTS_MISSING' });
  });

  test('finds every weight of a materialised export in its file', async () => {
    const source = await read(await materialise('tiny-ts17', testDirectory()));
    const exported = decodeModel(readFileSync(source.path)).graph?.initializer ?? [];
    expect(source.weights.size).toBeGreaterThan(100);
    for (const { name, offset, bytes } of source.weights.values()) {
      const entries = exported.find((tensor) => tensor.name === name)?.externalData;
      expect(entries?.map(({ value }) => value)).toEqual(['weights.bin', String(offset), String(bytes)]);
    }
  });
});

/** A model file of which almost all is one tensor: a hole in the file, which takes no space on the disk. */
const writeHugeModel = (path: string, rows: number): void => {
  const bytes = rows * 1024;
  const length = (size: number): number[] =>
    size < 0x80 ? [size] : [(size % 0x80) + 0x80, ...length(Math.floor(size / 0x80))];
  const field = (number: number, size: number): number[] => [number * 8 + 2, ...length(size)];
  const spec = [...encodeTensorSpec(rows)];
  const tensorSize = spec.length + field(9, bytes).length + bytes;
  const output = [0x62, 0x03, 0x0a, 0x01, 0x79];
  const graphSize = output.length + field(5, tensorSize).length + tensorSize;
  const head = [0x08, 0x08, ...field(7, graphSize), ...output, ...field(5, tensorSize), ...spec, ...field(9, bytes)];
  const opset = [0x42, 0x02, 0x10, 0x11];
  const fd = openSync(path, 'w');
  writeSync(fd, Uint8Array.from(head));
  ftruncateSync(fd, head.length + bytes);
  writeSync(fd, Uint8Array.from(opset), 0, opset.length, head.length + bytes);
  closeSync(fd);
};

/** dims = [rows, 256], data_type = FLOAT, name = "w". */
const encodeTensorSpec = (rows: number): Uint8Array =>
  encodeModel(
    createModel({ graph: { initializer: [{ dims: [BigInt(rows), 256n], dataType: DataType.FLOAT, name: 'w' }] } }),
  ).subarray(4);

test('reads a model file of 3 GiB with inline weights in little memory', () => {
  const path = join(testDirectory(), 'huge.onnx');
  writeHugeModel(path, 3 * 1024 * 1024);
  const script = `
    const { readModel } = await import('#tandem/partition/read/index.js');
    const { weights } = await readModel(process.argv[1], { requireWeights: true });
    console.log(JSON.stringify({ bytes: weights.get('w').bytes, memory: process.resourceUsage().maxRSS * 1024 }));`;
  const answer = execFileSync(process.execPath, ['--input-type=module', '-e', script, path], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  const { bytes, memory } = JSON.parse(answer);
  expect(bytes).toBe(3 * 1024 ** 3);
  expect(memory).toBeLessThan(200 * 1024 ** 2);
});
