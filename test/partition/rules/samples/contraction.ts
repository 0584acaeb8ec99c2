/** Samples of the operators that multiply and sum. */
import { normal, type Sample, sample } from '../sample.js';

const matMul = (op: string, a: readonly number[], b: readonly number[], variant = ''): Sample =>
  sample(op, [normal(a), normal(b)], { variant });

const PRODUCTS = ['MatMul', 'com.microsoft::FusedMatMul'].flatMap((op) => [
  matMul(op, [5, 6], [6, 7]),
  matMul(op, [3, 5, 6], [6, 7], 'of a batch and a weight'),
  matMul(op, [2, 3, 5, 6], [2, 3, 6, 7], 'of two batches of matrices'),
  matMul(op, [4, 1, 5, 6], [3, 6, 7], 'with a broadcast batch'),
]);

const MATMUL = [
  ...PRODUCTS,
  matMul('MatMul', [6], [6, 7], 'of a vector and a matrix'),
  matMul('MatMul', [5, 6], [6], 'of a matrix and a vector'),
  matMul('MatMul', [6], [6], 'of two vectors'),
  matMul('MatMul', [6], [3, 6, 7], 'of a vector and a batch'),
  matMul('MatMul', [3, 5, 6], [6], 'of a batch and a vector'),
  sample('MatMul', [normal([5, 6], 'float16'), normal([6, 7], 'float16')], { variant: 'of float16' }),
];

const fused = (
  variant: string,
  a: readonly number[],
  b: readonly number[],
  attributes: Record<string, number>,
): Sample =>
  sample('com.microsoft::FusedMatMul', [normal(a), normal(b)], {
    variant,
    attributes: { ...attributes, alpha: { float: 0.5 } },
  });

const FUSED = [
  fused('with the first transposed', [3, 6, 5], [3, 6, 7], { transA: 1 }),
  fused('with the second transposed', [3, 5, 6], [3, 7, 6], { transB: 1 }),
  fused('with both transposed', [3, 6, 5], [7, 6], { transA: 1, transB: 1 }),
  fused('with batch axes transposed', [5, 3, 6], [3, 6, 7], { transBatchA: 1 }),
];

const gemm = (variant: string, a: readonly number[], b: readonly number[], c?: readonly number[], flags = {}): Sample =>
  sample('Gemm', [normal(a), normal(b), ...(c ? [normal(c)] : [])], { variant, attributes: flags });

const GEMM = [
  gemm('', [5, 6], [6, 7]),
  gemm('with a bias', [5, 6], [6, 7], [7]),
  gemm('with a matrix added', [5, 6], [6, 7], [5, 7]),
  gemm('with a column added', [5, 6], [6, 7], [5, 1]),
  gemm('with a number added', [5, 6], [6, 7], [1]),
  gemm('with the first transposed', [6, 5], [6, 7], undefined, { transA: 1 }),
  gemm('with both transposed and scaled', [6, 5], [7, 6], [7], {
    transA: 1,
    transB: 1,
    alpha: { float: 0.5 },
    beta: { float: 2 },
  }),
];

interface Convolution {
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly bias?: number;
  readonly attributes?: Readonly<Record<string, number | string | readonly number[]>>;
}

const conv = (op: string, variant: string, { x, w, bias, attributes = {} }: Convolution): Sample =>
  sample(op, [normal(x), normal(w), ...(bias ? [normal([bias])] : [])], { variant, attributes });

const SAME = { pads: [1, 1, 1, 1] };

const CONV = [
  conv('Conv', '', { x: [2, 6, 5, 4], w: [7, 6, 3, 3], attributes: SAME }),
  conv('Conv', 'with a bias', { x: [2, 6, 5, 4], w: [7, 6, 3, 3], bias: 7, attributes: SAME }),
  conv('Conv', 'with stride 2', { x: [2, 5, 6, 6], w: [4, 5, 3, 3], attributes: { ...SAME, strides: [2, 2] } }),
  conv('Conv', 'with a wide window', {
    x: [1, 2, 12, 4],
    w: [3, 2, 5, 3],
    attributes: { pads: [4, 1, 4, 1], dilations: [2, 1] },
  }),
  conv('Conv', 'with stride 2 padded behind', {
    x: [1, 3, 12, 6],
    w: [4, 3, 3, 3],
    attributes: { pads: [0, 1, 1, 1], strides: [2, 2] },
  }),
  conv('Conv', 'of patches', { x: [2, 3, 12, 6], w: [5, 3, 2, 2], bias: 5, attributes: { strides: [2, 2] } }),
  conv('Conv', 'of 1x1', { x: [3, 6, 5, 4], w: [7, 6, 1, 1], bias: 7 }),
  conv('Conv', 'of 1x1 with stride 2', { x: [3, 6, 5, 4], w: [7, 6, 1, 1], attributes: { strides: [2, 2] } }),
  conv('Conv', 'of 1x1 with padding', { x: [3, 6, 5, 4], w: [7, 6, 1, 1], attributes: SAME }),
  conv('Conv', 'in one dimension', { x: [2, 6, 9], w: [5, 6, 3] }),
  conv('Conv', 'in three dimensions', { x: [2, 4, 3, 4, 5], w: [5, 4, 2, 2, 2] }),
  conv('Conv', 'with padding named', { x: [2, 4, 5, 5], w: [6, 4, 3, 3], attributes: { auto_pad: 'SAME_UPPER' } }),
  conv('Conv', 'in 3 groups', { x: [2, 6, 5, 4], w: [9, 2, 3, 3], bias: 9, attributes: { ...SAME, group: 3 } }),
  conv('Conv', 'in 6 groups', { x: [2, 12, 4, 4], w: [6, 2, 1, 1], attributes: { group: 6 } }),
  conv('Conv', 'depthwise', { x: [2, 7, 5, 4], w: [7, 1, 3, 3], attributes: { ...SAME, group: 7 } }),
  conv('ConvTranspose', '', { x: [2, 6, 4, 3], w: [6, 5, 2, 2], attributes: { strides: [2, 2] } }),
  conv('ConvTranspose', 'with a bias', { x: [2, 6, 4, 3], w: [6, 5, 3, 3], bias: 5 }),
  conv('ConvTranspose', 'in groups', { x: [2, 6, 4, 3], w: [6, 2, 3, 3], attributes: { group: 3 } }),
];

const einsum = (equation: string, ...shapes: readonly (readonly number[])[]): Sample =>
  sample(
    'Einsum',
    shapes.map((shape) => normal(shape)),
    { variant: equation, attributes: { equation } },
  );

const EINSUM = [
  einsum('ij,jk->ik', [4, 5], [5, 6]),
  einsum('bhid,bhjd->bhij', [2, 3, 4, 5], [2, 3, 6, 5]),
  einsum('b i d, b j d -> b i j', [2, 4, 5], [2, 3, 5]),
  einsum('ij->ji', [4, 5]),
  einsum('ij->i', [4, 5]),
  einsum('ij,j->i', [4, 5], [5]),
  einsum('ii->i', [4, 4]),
  einsum('i,j->ij', [4], [5]),
  einsum('...ij,...jk->...ik', [2, 4, 5], [2, 5, 6]),
  einsum('ij,jk', [4, 5], [5, 6]),
  einsum('...ij,...jk', [3, 4, 5], [1, 5, 6]),
  einsum('bn,anm->bam', [4, 5], [3, 5, 6]),
];

export const CONTRACTION_SAMPLES: readonly Sample[] = [...MATMUL, ...FUSED, ...GEMM, ...CONV, ...EINSUM];
