/** Models that cannot be split are named and refused; what cannot be split in a model runs whole, with a reason. */
import { expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { DTYPES, type DType } from '#tandem/common/tensor.js';
import { type PlanReport, plan, planRanks } from '#tandem/partition/index.js';
import {
  type AttributeProto,
  AttributeType,
  createGraph,
  createNode,
  createValueInfo,
  intAttribute,
} from '#tandem/partition/onnx/index.js';
import { node, runSmallModel, type SmallModel, writeSmallModel } from './small-model.js';
import { inDirectory } from './stages.js';

const planSmall = (model: SmallModel): Promise<PlanReport> =>
  inDirectory((directory) =>
    plan({
      model: { path: writeSmallModel(directory, model) },
      devices: [1, 1].map((speed) => ({ provider: 'cpu', deviceId: 0, speed })),
      dims: {},
      wire: 'fp32',
    }),
  );

const errorOf = async (promise: Promise<unknown>): Promise<TandemError> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof TandemError) return error;
  throw new Error(`Expected a TandemError, found ${String(error)}.`);
};

const castTo = (dtype: DType): AttributeProto => intAttribute('to', DTYPES[dtype].code);

/** A graph attribute that gives a tensor of the graph around it out. */
const branch = (name: string, outer: string): AttributeProto => {
  const result = `${name}-result`;
  const copy = createNode({ name: `${name}-copy`, opType: 'Identity', input: [outer], output: [result] });
  const output = createValueInfo(result, DTYPES.float32.code, undefined);
  const graph = createGraph({ name, node: [copy], output: [output] });
  const [attribute] = createNode({ attribute: [{ name, type: AttributeType.GRAPH, g: graph }] }).attribute;
  if (attribute) return attribute;
  throw new Error('the node has lost its attribute');
};

const BRANCHING: SmallModel = {
  inputs: { x: [3, 16] },
  weights: { w: [16, 36], v: [16, 36] },
  nodes: [
    node('MatMul', ['x', 'w'], 'p'),
    node('MatMul', ['x', 'v'], 'q'),
    node('ReduceMax', ['x'], 'most'),
    node('Cast', ['most'], 'flag', castTo('bool')),
    node('Squeeze', ['flag'], 'condition'),
    node('If', ['condition'], 'y', branch('then_branch', 'p'), branch('else_branch', 'q')),
  ],
  outputs: ['y'],
};

it('refuses a model that branches at run time, and names the branch', async () => {
  const error = await errorOf(planSmall(BRANCHING));
  expect(error.code).toBe('MODEL_CONTROL_FLOW');
  expect(error.problems).toEqual(['node "If-5" is If']);
});

it.each([
  ['SequenceConstruct', 'ConcatFromSequence', [intAttribute('axis', 0)]],
  ['Optional', 'OptionalGetElement', []],
] as const)('refuses %s, whose result is no tensor, and names the node', async (makes, reads, attributes) => {
  const nodes = [node(makes, ['x'], 'others'), node(reads, ['others'], 'y', ...attributes)];
  const error = await errorOf(planSmall({ inputs: { x: [2, 24] }, nodes, outputs: ['y'] }));
  expect(error.code).toBe('MODEL_TYPE');
  expect(error.problems).toEqual([`node "${makes}-0" is ${makes}`]);
});

it('refuses a model that rounds to bfloat16 on its way, and names the node', async () => {
  const nodes = [
    node('MatMul', ['x', 'w'], 'p'),
    node('Cast', ['p'], 'short', castTo('bfloat16')),
    node('Cast', ['short'], 'y', castTo('float32')),
  ];
  const error = await errorOf(planSmall({ inputs: { x: [2, 24] }, weights: { w: [24, 36] }, nodes, outputs: ['y'] }));
  expect(error.code).toBe('MODEL_TYPE');
  expect(error.problems).toEqual(['node "Cast-1" makes "short"']);
});

it('refuses an operator that ONNX Runtime does not know, and names it', async () => {
  const error = await errorOf(
    planSmall({
      inputs: { x: [3, 16] },
      weights: { w: [16, 36] },
      nodes: [node('MatMul', ['x', 'w'], 'p'), { ...node('Swirl', ['p'], 'y'), domain: 'com.example' }],
      outputs: ['y'],
      domains: ['com.example'],
    }),
  );
  expect(error.code).toBe('MODEL_REFUSED');
  expect(error.message).toContain('com.example:Swirl');
});

it('runs an operator without a rule whole, and says so', async () => {
  const model: SmallModel = {
    inputs: { x: [3, 16] },
    weights: { w1: [16, 36], w2: [36, 20] },
    nodes: [node('MatMul', ['x', 'w1'], 'h'), node('Hardmax', ['h'], 'r'), node('MatMul', ['r', 'w2'], 'y')],
    outputs: ['y'],
  };
  const { replicated } = await planSmall(model);
  expect(replicated.map(({ op, reason }) => [op, reason])).toContainEqual([
    'Hardmax',
    expect.stringMatching(/^no rule for operator Hardmax: ./),
  ]);
  expect((await runSmallModel(model, [1, 1])).error).toBeLessThan(1e-5);
});

it('refuses an output whose size depends on data already when it plans, and names the node that makes it so', async () => {
  const error = await errorOf(
    planSmall({
      inputs: { x: [3, 16] },
      weights: { w: [16, 36] },
      nodes: [
        node('MatMul', ['x', 'w'], 'p'),
        node('NonZero', ['p'], 'n'),
        node('Cast', ['n'], 'y', castTo('float32')),
      ],
      outputs: ['y'],
    }),
  );
  expect(error.code).toBe('MODEL_SHAPE');
  expect(error.problems).toEqual(['output "y": node "NonZero-1" (NonZero) makes "n" of a size that only a run tells']);
});

it('plans for the outputs that are wanted alone, and names those that the model does not have', async () => {
  const model: SmallModel = {
    inputs: { x: [3, 16] },
    weights: { w: [16, 36], v: [36, 20] },
    nodes: [node('MatMul', ['x', 'w'], 'y'), node('MatMul', ['y', 'v'], 'z')],
    outputs: ['y', 'z'],
  };
  const weights = (outputs?: readonly string[]): Promise<number | undefined> =>
    inDirectory(async (directory) => {
      const [rank] = await planRanks({
        model: { path: writeSmallModel(directory, model) },
        devices: [{ provider: 'cpu', deviceId: 0 }],
        dims: {},
        wire: 'fp32',
        ...(outputs ? { outputs } : {}),
      });
      return rank?.weight_bytes;
    });
  expect(await weights()).toBe(4 * (16 * 36 + 36 * 20));
  expect(await weights(['y'])).toBe(4 * 16 * 36);
  const error = await errorOf(weights(['y', 'pooled']));
  expect(error.code).toBe('MODEL_OUTPUTS');
  expect(error.message).toMatch(/the model has \(y, z\); found pooled/);
});
