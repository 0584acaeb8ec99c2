/** Key and value heads that are fewer than the ranks, or that ranks do not divide: each rank has those that its queries read. */
import { describe, expect, it } from 'vitest';
import { type AttributeProto, intAttribute, intsAttribute } from '#tandem/partition/onnx/index.js';
import { node, runSmallModel, type SmallModel } from './small-model.js';

const SIZE = 8;
const TOKENS = 5;

interface Heads {
  readonly queries: number;
  readonly keys: number;
}

const names = (...list: readonly AttributeProto[]): readonly AttributeProto[] => list;

/** Reshape to heads, and these before tokens. */
const split = (name: string) => [
  node('Reshape', [name, `${name}.heads`], `${name}.apart`),
  node('Transpose', [`${name}.apart`], `${name}.turned`, intsAttribute('perm', [0, 2, 1, 3])),
];

/** Each head as often as there are queries that read it. */
const repeat = (name: string) => [
  node('Unsqueeze', [`${name}.turned`, 'second'], `${name}.single`),
  node('Expand', [`${name}.single`, 'repeats'], `${name}.many`),
  node('Reshape', [`${name}.many`, 'all'], `${name}.repeated`),
];

const weightsOf = ({ queries, keys }: Heads) => ({
  wq: [48, queries * SIZE],
  wk: [48, keys * SIZE],
  wv: [48, keys * SIZE],
  wo: [queries * SIZE, 48],
});

const intsOf = ({ queries, keys }: Heads) => ({
  'q.heads': [2, TOKENS, queries, SIZE],
  'k.heads': [2, TOKENS, keys, SIZE],
  'v.heads': [2, TOKENS, keys, SIZE],
  second: [2],
  repeats: [2, keys, queries / keys, TOKENS, SIZE],
  all: [2, queries, TOKENS, SIZE],
  joined: [2, TOKENS, queries * SIZE],
});

const PROJECTIONS = ['q', 'k', 'v'].map((name) => node('MatMul', ['x', `w${name}`], name));

const END = [
  node('Transpose', ['o'], 'o.turned', intsAttribute('perm', [0, 2, 1, 3])),
  node('Reshape', ['o.turned', 'joined'], 'o.joined'),
  node('MatMul', ['o.joined', 'wo'], 'y'),
];

/** Attention written out, as most exporters do. */
const writtenOut = (heads: Heads): SmallModel => ({
  inputs: { x: [2, TOKENS, 48] },
  weights: weightsOf(heads),
  ints: intsOf(heads),
  nodes: [
    ...PROJECTIONS,
    ...['q', 'k', 'v'].flatMap(split),
    ...['k', 'v'].flatMap(repeat),
    node('Transpose', ['k.repeated'], 'k.last', intsAttribute('perm', [0, 1, 3, 2])),
    node('MatMul', ['q.turned', 'k.last'], 'scores'),
    node('Softmax', ['scores'], 'weights', intAttribute('axis', -1)),
    node('MatMul', ['weights', 'v.repeated'], 'o'),
    ...END,
  ],
  outputs: ['y'],
});

/** As one operator, whose heads are inside of the last axis. */
const oneOperator = (heads: Heads): SmallModel => ({
  inputs: { x: [2, TOKENS, 48] },
  weights: weightsOf(heads),
  nodes: [
    ...PROJECTIONS,
    node(
      'Attention',
      ['q', 'k', 'v'],
      'o',
      ...names(intAttribute('q_num_heads', heads.queries), intAttribute('kv_num_heads', heads.keys)),
    ),
    node('MatMul', ['o', 'wo'], 'y'),
  ],
  outputs: ['y'],
  opset: 23,
});

const CASES: readonly (readonly [queries: number, keys: number, speeds: readonly number[]])[] = [
  [6, 2, [1, 1, 1]],
  [6, 2, [1, 1, 1, 1]],
  [4, 2, [1, 1, 1]],
  [8, 2, [1, 1, 1, 1]],
  [6, 3, [1, 1]],
  [9, 3, [2, 1]],
];

describe.each([
  ['written out', writtenOut],
  ['as one operator', oneOperator],
] as const)('attention %s', (_, model) => {
  const exchanges = async (queries: number, keys: number, speeds: readonly number[]) => {
    const { error, manifest } = await runSmallModel(model({ queries, keys }), speeds);
    expect(error).toBeLessThan(1e-5);
    return (manifest.profiles[0]?.ranks[0]?.segments.length ?? 0) - 1;
  };

  it.each(CASES)('of %i query heads and %i key heads on ranks of speeds %s exchanges one sum', async (...heads) => {
    expect(await exchanges(...heads)).toBe(1);
  });

  it('of one key head gathers its products rather than that each rank has all of its weights', async () => {
    expect(await exchanges(6, 1, [1, 1, 1])).toBe(2);
  });
});
