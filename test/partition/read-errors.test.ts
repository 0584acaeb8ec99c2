import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { createModel, createTensor, DataType, encodeModel, type TensorProto } from '#tandem/partition/onnx/index.js';
import { readModel } from '#tandem/partition/read/index.js';
import { graphOnly } from '../fixtures/materialise.js';
import { testDirectory } from '../support/directory.js';
import {
  CONSTANT,
  externalModel,
  externalTensor,
  inlineModel,
  pattern,
  rawTensor,
  saveModel,
  smallModel,
} from './read-models.js';

/** The error that reading ends with. */
const failure = async (path: string): Promise<TandemError> => {
  const error = await readModel(path, { requireWeights: true }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof TandemError) return error;
  throw new Error(`Expected a TandemError, found ${error}.`);
};

const saveBytes = (bytes: Uint8Array | string): string => {
  const path = join(testDirectory(), 'model.onnx');
  writeFileSync(path, bytes);
  return path;
};

const PNG = Uint8Array.of(
  0x89,
  0x50,
  0x4e,
  0x47,
  0x0d,
  0x0a,
  0x1a,
  0x0a,
  0,
  0,
  0,
  13,
  0x49,
  0x48,
  0x44,
  0x52,
  0,
  0,
  0,
  1,
);

describe('what is no ONNX model', () => {
  test.each([
    ['an empty file', '', 'an empty file'],
    ['a text', 'This is a letter and not a model.\n', 'found text'],
    ['a JSON file', '{"model_type": "unet"}', 'found text'],
    ['a picture', PNG, 'other data'],
    ['zeros', new Uint8Array(5000), 'other data'],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n', 'git lfs pull'],
  ])('is refused: %s', async (_, content, expected) => {
    const error = await failure(saveBytes(content));
    expect(error.code).toBe('MODEL_NOT_ONNX');
    expect(error.message).toContain(expected);
  });

  test('is refused: random bytes, whatever they are', async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const bytes = Uint8Array.from(pattern(4096, seed * 7919), (byte, index) => byte ^ (Math.imul(index, seed) >>> 3));
      expect((await failure(saveBytes(bytes))).code).toMatch(/^MODEL_/);
    }
  });

  test('is refused: a directory', async () => {
    const error = await failure(testDirectory());
    expect(error).toMatchObject({ code: 'MODEL_NOT_ONNX', message: expect.stringContaining('a directory') });
  });

  test('is refused: nothing at all', async () => {
    expect(await failure(join(testDirectory(), 'absent.onnx'))).toMatchObject({ code: 'MODEL_NOT_FOUND' });
  });
});

describe('a damaged model', () => {
  test('is refused wherever it was cut', async () => {
    const bytes = encodeModel(inlineModel());
    const path = saveBytes(bytes);
    for (let size = bytes.byteLength - 1; size >= 0; size--) {
      truncateSync(path, size);
      expect((await failure(path)).code, `cut at ${size}`).toMatch(/^MODEL_(TRUNCATED|NOT_ONNX|NO_GRAPH|NO_OPSET)$/);
    }
  });

  test('is refused wherever a real export was cut', async () => {
    const path = await graphOnly('tiny-ts17', testDirectory());
    for (let size = readFileSync(path).byteLength - 1; size > 1; size = Math.floor(size * 0.97)) {
      truncateSync(path, size);
      expect((await failure(path)).code, `cut at ${size}`).toMatch(/^MODEL_(TRUNCATED|NOT_ONNX|NO_GRAPH|NO_OPSET)$/);
    }
  });

  test('says how long the file should be', async () => {
    const bytes = encodeModel(inlineModel());
    const error = await failure(saveBytes(bytes.subarray(0, 1000)));
    expect(error.code).toBe('MODEL_TRUNCATED');
    expect(error.message).toContain('found 1000');
  });

  test('never gives more than an error of ours, whichever byte was flipped', async () => {
    const bytes = encodeModel(inlineModel());
    const path = saveBytes(bytes);
    for (let index = 0; index < bytes.byteLength; index += index < 100 ? 1 : 7) {
      const flipped = Uint8Array.from(bytes);
      flipped[index] = (flipped[index] ?? 0) ^ 0x55;
      writeFileSync(path, flipped);
      const outcome = await readModel(path, { requireWeights: true }).catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome, `byte ${index}`).toBeInstanceOf(TandemError);
    }
  });

  test('is refused without a graph, and without outputs', async () => {
    const model = createModel({ irVersion: 8n, opsetImport: [{ version: 17n }] });
    expect(await failure(saveBytes(encodeModel(model)))).toMatchObject({
      code: 'MODEL_NO_GRAPH',
      message: expect.stringContaining('no graph'),
    });
    model.graph = createModel({ graph: { name: 'empty' } }).graph;
    expect(await failure(saveBytes(encodeModel(model)))).toMatchObject({
      code: 'MODEL_NO_GRAPH',
      message: expect.stringContaining('without outputs'),
    });
  });

  test('is refused when it imports no version of a domain that it uses', async () => {
    const model = inlineModel();
    const [, matmul] = model.graph?.node ?? [];
    if (matmul) matmul.domain = 'com.example';
    const error = await failure(saveBytes(encodeModel(model)));
    expect(error).toMatchObject({ code: 'MODEL_NO_OPSET', message: expect.stringContaining('"com.example"') });
  });

  test('is refused when a tensor has too few bytes, an impossible shape or a name twice, all told at once', async () => {
    const model = smallModel(
      [
        rawTensor('short', [10], pattern(36)),
        rawTensor('negative', [-1], pattern(4)),
        rawTensor('twice', [1], pattern(4)),
        rawTensor('twice', [1], pattern(4)),
      ],
      rawTensor('value', [16, 20], CONSTANT),
    );
    const { problems } = await failure(saveBytes(encodeModel(model)));
    expect(problems).toEqual([
      expect.stringMatching(/"short".*expected 40 bytes.*found 36/),
      expect.stringMatching(/"negative".*\[-1\]/),
      expect.stringMatching(/"twice"/),
    ]);
  });
});

test('names unsupported element types', async () => {
  const odd = createTensor({ name: 'odd', dims: [2n], dataType: DataType.FLOAT8E4M3FN, rawData: pattern(2) });
  const text = createTensor({ name: 'text', dims: [1n], dataType: DataType.STRING, stringData: [pattern(2)] });
  const path = saveModel(testDirectory(), smallModel([odd, text], rawTensor('value', [16, 20], CONSTANT)));
  const error = await failure(path);
  expect(error.code).toBe('WEIGHTS_DTYPE');
  expect(error.problems).toEqual([
    expect.stringMatching(/"odd".*FLOAT8E4M3FN.*expected one of float32/),
    expect.stringMatching(/"text".*STRING/),
  ]);
});

describe('external data', () => {
  const save = (folder: string, tensor: TensorProto, files: Readonly<Record<string, Uint8Array>> = {}): string =>
    saveModel(folder, smallModel([tensor], rawTensor('value', [16, 20], CONSTANT)), files);

  test('that is missing is an error which names the file once, unless only the graph is wanted', async () => {
    const folder = testDirectory();
    const path = saveModel(folder, externalModel().model);
    const error = await failure(path);
    expect(error.code).toBe('WEIGHTS_MISSING');
    expect(error.problems).toHaveLength(1);
    expect(error.message).toContain(join(folder, 'weights.bin'));
    expect(error.message).toContain('"big"');
    const { weights } = await readModel(path, { requireWeights: false });
    expect([...weights.keys()]).toEqual(['big', 'small', 'constant']);
  });

  test('that is too short is an error with both sizes', async () => {
    const { model, weights } = externalModel();
    const path = saveModel(testDirectory(), model, { 'weights.bin': weights.subarray(0, 2000) });
    const error = await failure(path);
    expect(error.code).toBe('WEIGHTS_TOO_SHORT');
    expect(error.message).toMatch(/"big".*weights\.bin.*at least 2048 bytes, found 2000/);
    expect(error.message).toContain('and 2 more tensors');
  });

  test('that is cut between reading and digesting is an error', async () => {
    const folder = testDirectory();
    const { model, weights } = externalModel();
    const source = await readModel(saveModel(folder, model, { 'weights.bin': weights }), { requireWeights: true });
    truncateSync(join(folder, 'weights.bin'), 1000);
    await expect(source.digest()).rejects.toMatchObject({ code: 'WEIGHTS_TOO_SHORT' });
    rmSync(join(folder, 'weights.bin'));
    await expect(source.digest()).rejects.toMatchObject({ code: 'WEIGHTS_MISSING' });
  });

  test.each([
    ['/etc/hostname', 'absolute'],
    ['C:\\weights.bin', 'absolute'],
    ['../weights.bin', '".."'],
    ['a/../../weights.bin', '".."'],
    ['a\\..\\..\\weights.bin', '".."'],
    ['', 'empty'],
  ])('at "%s" is refused', async (location, reason) => {
    const error = await failure(save(testDirectory(), externalTensor('w', [300], location, 0, 1200)));
    expect(error.code).toBe('WEIGHTS_OUTSIDE');
    expect(error.message).toContain(reason);
  });

  test('behind a link that leaves the folder is refused, also by way of a linked folder', async () => {
    const outside = testDirectory();
    writeFileSync(join(outside, 'weights.bin'), pattern(1200));
    const folder = testDirectory();
    symlinkSync(join(outside, 'weights.bin'), join(folder, 'weights.bin'));
    symlinkSync(outside, join(folder, 'linked'));
    for (const location of ['weights.bin', 'linked/weights.bin']) {
      const error = await failure(save(folder, externalTensor('w', [300], location, 0, 1200)));
      expect(error).toMatchObject({ code: 'WEIGHTS_OUTSIDE', message: expect.stringContaining('is a link') });
    }
  });

  test('may lie in a subfolder, behind a link that stays, or beside the file that the model links to', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'data'));
    writeFileSync(join(folder, 'data', 'real.bin'), pattern(1200));
    symlinkSync(join('data', 'real.bin'), join(folder, 'weights.bin'));
    const path = save(folder, externalTensor('w', [300], 'weights.bin', 0, 1200));
    const cache = testDirectory();
    symlinkSync(path, join(cache, 'linked.onnx'));
    symlinkSync(join(folder, 'data', 'real.bin'), join(cache, 'weights.bin'));
    for (const model of [path, join(cache, 'linked.onnx')]) {
      const { weights } = await readModel(model, { requireWeights: true });
      expect(weights.get('w')?.file).toBe(join(folder, 'data', 'real.bin'));
    }
  });

  test('of another length than the shape asks for is refused', async () => {
    const error = await failure(
      save(testDirectory(), externalTensor('w', [300], 'weights.bin', 0, 1000), { 'weights.bin': pattern(1200) }),
    );
    expect(error).toMatchObject({
      code: 'WEIGHTS_SIZE',
      message: expect.stringMatching(/"w" needs 1200 bytes.*"1000"/),
    });
  });

  test('may leave out offset and length', async () => {
    const tensor = externalTensor('w', [300], 'weights.bin', 0, 1200);
    tensor.externalData = tensor.externalData.filter(({ key }) => key === 'location');
    const { weights } = await readModel(save(testDirectory(), tensor, { 'weights.bin': pattern(1200) }), {
      requireWeights: true,
    });
    expect(weights.get('w')).toMatchObject({ offset: 0, bytes: 1200 });
  });

  test('that is a directory is refused', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'weights.bin'));
    const error = await failure(save(folder, externalTensor('w', [300], 'weights.bin', 0, 1200)));
    expect(error).toMatchObject({ code: 'WEIGHTS_OUTSIDE', message: expect.stringContaining('not a regular file') });
  });
});
