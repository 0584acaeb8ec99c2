import { describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { type Dims, fold } from '#tandem/partition/clean/fold.js';
import type { Graph } from '#tandem/partition/graph/graph.js';
import { readModel } from '#tandem/partition/read/index.js';
import { graphOnly } from '../fixtures/materialise.js';
import { node, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory, TINY_EXPORTS } from './stages.js';

const foldSmall = (model: SmallModel, dims: Dims = {}): Promise<Graph> =>
  inDirectory(async (directory) =>
    fold(await readModel(writeSmallModel(directory, model), { requireWeights: false }), dims),
  );

const foldFixture = (name: string, dims: Dims): Promise<Graph> =>
  inDirectory(async (directory) =>
    fold(await readModel(await graphOnly(name, directory), { requireWeights: false }), dims),
  );

const errorOf = async (promise: Promise<unknown>): Promise<TandemError> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof TandemError) return error;
  throw new Error(`Expected a TandemError, found ${String(error)}.`);
};

const PRODUCT: SmallModel = {
  inputs: { x: [3, 16] },
  weights: { w: [16, 36] },
  nodes: [node('MatMul', ['x', 'w'], 'y')],
  outputs: ['y'],
};

describe.each([
  ...TINY_EXPORTS,
  ['sd15-ts17-sym', { batch_size: 2, height: 64, width: 64, sequence_length: 77 }] as const,
])('%s, folded', (name, dims) => {
  it('has a static shape everywhere and no shape arithmetic left', async () => {
    const graph = await foldFixture(name, dims);
    const values = graph.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]);
    expect(values.filter((value) => value && !value.shape).map((value) => value?.name)).toEqual([]);
    expect(graph.nodes.filter(({ op }) => ['Shape', 'ConstantOfShape', 'Range'].includes(op))).toEqual([]);
    expect(graph.outputs.map(({ shape }) => shape)).toEqual([
      graph.inputs.find(({ name: input }) => input === 'sample')?.shape,
    ]);
  });
});

describe('symbolic dims', () => {
  const SYMBOLIC: SmallModel = {
    ...PRODUCT,
    inputs: { x: ['batch', 'length', 16], z: ['batch', 36] },
    nodes: [node('MatMul', ['x', 'w'], 'p'), node('Add', ['p', 'z'], 'y')],
  };

  it('are listed all at once where they have no size, with who has them', async () => {
    const error = await errorOf(foldSmall(SYMBOLIC));
    expect(error.code).toBe('MODEL_DIMS');
    expect(error.problems).toEqual([
      '"batch" of x[batch, length, 16] and z[batch, 36] has no size: add --dim batch=SIZE',
      '"length" of x[batch, length, 16] has no size: add --dim length=SIZE',
    ]);
  });

  it('that the model does not have are an error, and so are sizes that are none', async () => {
    const error = await errorOf(foldSmall(SYMBOLIC, { batch: 0, length: 36, widht: 5 }));
    expect(error.problems).toEqual([
      '--dim widht: the model has no such dim; it has batch, length',
      '--dim batch=0: expected a whole number above 0',
    ]);
  });

  it('become sizes', async () => {
    const graph = await foldSmall(SYMBOLIC, { batch: 36, length: 36 });
    expect(graph.inputs.map(({ shape }) => shape)).toEqual([
      [36, 36, 16],
      [36, 36],
    ]);
    expect(graph.outputs.map(({ shape }) => shape)).toEqual([[36, 36, 36]]);
  });
});

it('hands ONNX Runtime’s reason on where it does not take the model', async () => {
  const error = await errorOf(foldSmall({ ...PRODUCT, nodes: [node('NoSuchOperator', ['x', 'w'], 'y')] }));
  expect(error.code).toBe('MODEL_REFUSED');
  expect(error.message).toContain('NoSuchOperator');
});

it('sees through Identity nodes to the weight that several names share', async () => {
  const graph = await foldSmall({
    ...PRODUCT,
    nodes: [
      node('Identity', ['w'], 'alias'),
      node('MatMul', ['x', 'alias'], 'p'),
      node('MatMul', ['x', 'w'], 'q'),
      node('Sub', ['p', 'q'], 'y'),
    ],
  });
  const weights = new Set(graph.nodes.flatMap(({ inputs }) => inputs.filter((value) => value?.constant)));
  expect(weights.size).toBe(1);
});

it('keeps an output that is an input', async () => {
  const graph = await foldSmall({ ...PRODUCT, outputs: ['y', 'x'] });
  expect(graph.outputs[1]).toBe(graph.inputs[0]);
});

it('keeps an output that is a constant', async () => {
  const graph = await foldSmall({ ...PRODUCT, outputs: ['y', 'w'] });
  expect(graph.outputs[1]?.constant?.kind).toBe('weight');
});

it('takes initializers that are declared as inputs, as before IR version 4, for weights', async () => {
  const graph = await foldSmall({ ...PRODUCT, irVersion: 3, declared: ['w'] });
  expect(graph.inputs.map(({ name }) => name)).toEqual(['x']);
  expect(graph.nodes[0]?.inputs[1]?.constant?.kind).toBe('weight');
});
