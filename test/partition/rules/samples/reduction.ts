/** Samples of the operators that combine elements along some axes, and of attention. */
import { below, ints, normal, positive, type Sample, sample } from '../sample.js';

const SHAPE = [3, 7, 4];

const SOFTMAX = ['Softmax', 'LogSoftmax'].flatMap((op) => [
  sample(op, [normal(SHAPE)]),
  sample(op, [normal(SHAPE)], { variant: 'along axis 1', attributes: { axis: 1 } }),
  sample(op, [normal(SHAPE)], { variant: 'in opset 11, from axis 1 on', opset: 11, attributes: { axis: 1 } }),
  sample(op, [normal(SHAPE)], { variant: 'in opset 11, along axis -1', opset: 11, attributes: { axis: -1 } }),
]);

const trailing = (op: string, opset: number, attributes = {}): readonly Sample[] => [
  sample(op, [normal(SHAPE), normal([4])], { opset, attributes }),
  sample(op, [normal(SHAPE), normal([7, 4])], {
    variant: 'over two axes',
    opset,
    attributes: { axis: 1, ...attributes },
  }),
];

const NORMS = [
  ...trailing('LayerNormalization', 17),
  ...trailing('SimplifiedLayerNormalization', 17),
  ...trailing('RMSNormalization', 23),
  sample('LayerNormalization', [normal(SHAPE), normal([4]), normal([4])], { variant: 'with a bias' }),
  sample('LayerNormalization', [normal(SHAPE), normal([4]), normal([4])], {
    variant: 'with mean and deviation',
    outputs: 3,
  }),
  sample('LayerNormalization', [normal(SHAPE), normal([7, 4])], {
    variant: 'with mean and deviation over two axes',
    outputs: 3,
    attributes: { axis: 1 },
  }),
  sample('InstanceNormalization', [normal([2, 6, 5, 4]), normal([6]), normal([6])]),
  sample('InstanceNormalization', [normal([3, 4, 9]), normal([4]), normal([4])], { variant: 'of groups' }),
  sample('GroupNormalization', [normal([2, 12, 3, 2]), normal([4]), normal([4])], {
    variant: 'with a scale per group',
    opset: 18,
    attributes: { num_groups: 4 },
  }),
  sample('GroupNormalization', [normal([2, 12, 3, 2]), normal([12]), normal([12])], {
    variant: 'with a scale per channel',
    opset: 21,
    attributes: { num_groups: 4 },
  }),
  sample('BatchNormalization', [normal([2, 6, 5]), normal([6]), normal([6]), normal([6]), positive([6])]),
];

const RUNNING = [
  sample('CumSum', [normal(SHAPE), ints([1], [])]),
  sample('CumSum', [normal(SHAPE), ints([-1], [])], {
    variant: 'backwards and exclusive',
    attributes: { reverse: 1, exclusive: 1 },
  }),
  sample('LpNormalization', [positive(SHAPE)]),
  sample('LpNormalization', [positive(SHAPE)], { variant: 'along axis 1', attributes: { axis: 1, p: 1 } }),
];

const REDUCERS = ['ReduceMax', 'ReduceMin', 'ReduceProd', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare'];

const byAttribute = (op: string): readonly Sample[] => [
  sample(op, [normal(SHAPE)], { variant: 'axes as attribute', attributes: { axes: [1] } }),
  sample(op, [normal(SHAPE)], { variant: 'axes not kept', attributes: { axes: [-1, 0], keepdims: 0 } }),
  sample(op, [normal(SHAPE)], { variant: 'all axes' }),
];

const byInput = (op: string, opset: number): readonly Sample[] => [
  sample(op, [normal(SHAPE), ints([-1])], { variant: 'axes as input', opset }),
  sample(op, [normal(SHAPE), ints([0, 2])], { variant: 'axes as input, not kept', opset, attributes: { keepdims: 0 } }),
  sample(op, [normal(SHAPE), ints([])], { variant: 'no axes', opset, attributes: { noop_with_empty_axes: 1 } }),
];

const REDUCE = [
  ...[...REDUCERS, 'ReduceMean'].flatMap((op) => [...byAttribute(op), ...byInput(op, 18)]),
  ...byInput('ReduceSum', 13),
  sample('ReduceSum', [normal(SHAPE)], { variant: 'in opset 11', opset: 11, attributes: { axes: [2] } }),
];

const IMAGE = [2, 5, 6, 7];
const WINDOW = { kernel_shape: [2, 2], strides: [2, 2] };

const RANKED = [
  ...['ArgMax', 'ArgMin'].flatMap((op) => [
    sample(op, [normal(SHAPE)], { attributes: { axis: 1 } }),
    sample(op, [normal(SHAPE)], { variant: 'not kept', attributes: { axis: -1, keepdims: 0 } }),
  ]),
  sample('TopK', [normal(SHAPE), ints([2])], { outputs: 2 }),
  sample('TopK', [normal(SHAPE), ints([2])], { variant: 'along axis 0', outputs: 2, attributes: { axis: 0 } }),
  ...['ReduceLogSum', 'ReduceLogSumExp'].map((op) => sample(op, [positive(SHAPE)], { attributes: { axes: [1] } })),
];

const POOLING = [
  ...['AveragePool', 'MaxPool', 'LpPool'].map((op) => sample(op, [normal(IMAGE)], { attributes: WINDOW })),
  sample('AveragePool', [normal(IMAGE)], {
    variant: 'with padding',
    attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], count_include_pad: 1 },
  }),
  sample('MaxPool', [normal(IMAGE)], { variant: 'with indices', outputs: 2, attributes: WINDOW }),
  sample('GlobalAveragePool', [normal(IMAGE)]),
  sample('GlobalMaxPool', [normal(IMAGE)]),
];

interface Heads {
  readonly q?: number;
  readonly kv?: number;
  readonly attributes?: Readonly<Record<string, number | { readonly float: number }>>;
  readonly mask?: ReturnType<typeof normal>;
}

const [BATCH, QUERIES, KEYS, SIZE, VALUE_SIZE] = [2, 3, 5, 4, 6];

/** Opset 23: heads as an axis. */
const attention4d = (variant: string, { q = 6, kv = q, attributes = {}, mask }: Heads = {}): Sample =>
  sample(
    'Attention',
    [
      normal([BATCH, q, QUERIES, SIZE]),
      normal([BATCH, kv, KEYS, SIZE]),
      normal([BATCH, kv, KEYS, VALUE_SIZE]),
      ...(mask ? [mask] : []),
    ],
    { variant, opset: 23, attributes },
  );

/** Heads inside the last axis. */
const attention3d = (variant: string, { q = 6, kv = q, attributes = {}, mask }: Heads = {}): Sample =>
  sample(
    'Attention',
    [
      normal([BATCH, QUERIES, q * SIZE]),
      normal([BATCH, KEYS, kv * SIZE]),
      normal([BATCH, KEYS, kv * VALUE_SIZE]),
      ...(mask ? [mask] : []),
    ],
    { variant, opset: 23, attributes: { q_num_heads: q, kv_num_heads: kv, ...attributes } },
  );

const multiHead = (variant: string, numHeads: number, attributes = {}, mask?: ReturnType<typeof normal>): Sample =>
  sample(
    'com.microsoft::MultiHeadAttention',
    [
      normal([BATCH, QUERIES, numHeads * SIZE]),
      normal([BATCH, KEYS, numHeads * SIZE]),
      normal([BATCH, KEYS, numHeads * VALUE_SIZE]),
      ...(mask ? [undefined, undefined, mask] : []),
    ],
    { variant, attributes: { num_heads: numHeads, ...attributes } },
  );

const ROTARY = [
  sample('RotaryEmbedding', [normal([2, 6, 3, 4]), normal([2, 3, 2]), normal([2, 3, 2])], { opset: 23 }),
  sample('RotaryEmbedding', [normal([2, 3, 24]), normal([2, 3, 2]), normal([2, 3, 2])], {
    variant: 'of heads in the last axis',
    opset: 23,
    attributes: { num_heads: 6 },
  }),
  sample('RotaryEmbedding', [normal([2, 6, 3, 4]), normal([9, 2]), normal([9, 2]), below(9, [2, 3])], {
    variant: 'at given places',
    opset: 23,
  }),
];

const ATTENTION = [
  ...ROTARY,
  attention4d(''),
  attention4d('of 5 heads', { q: 5 }),
  attention4d('with grouped queries', { q: 6, kv: 3 }),
  attention4d('with fewer key heads than ranks', { q: 8, kv: 2 }),
  attention4d('with one key head', { q: 6, kv: 1 }),
  attention4d('with fewer key heads and a mask per head', { q: 8, kv: 2, mask: normal([1, 8, QUERIES, KEYS]) }),
  attention4d('causal', { attributes: { is_causal: 1 } }),
  attention4d('with its own scale', { attributes: { scale: { float: 0.25 }, softcap: { float: 2 } } }),
  attention4d('with a mask for all', { mask: normal([QUERIES, KEYS]) }),
  attention4d('with a mask per head', { mask: normal([1, 6, QUERIES, KEYS]) }),
  attention4d('with a mask per image', { mask: normal([BATCH, 1, QUERIES, KEYS]) }),
  attention4d('with a mask per image and head', { mask: normal([BATCH, 6, QUERIES, KEYS]) }),
  attention4d('with a mask of bools', { mask: normal([BATCH, 1, QUERIES, KEYS], 'bool') }),
  attention4d('with grouped queries and a mask per head', { q: 6, kv: 3, mask: normal([1, 6, QUERIES, KEYS]) }),
  attention3d('heads in the last axis'),
  attention3d('heads in the last axis, grouped', { q: 6, kv: 3 }),
  attention3d('heads in the last axis, a mask per head', { mask: normal([1, 6, QUERIES, KEYS]) }),
  attention3d('heads in the last axis, a mask per image', { mask: normal([BATCH, 1, QUERIES, KEYS]) }),
  multiHead('', 6),
  multiHead('of 5 heads', 5),
  multiHead('with its own scale', 4, { scale: { float: 0.25 } }),
  multiHead('with a mask for all', 6, {}, normal([1, 1, QUERIES, KEYS])),
  multiHead('with a mask per head', 6, {}, normal([1, 6, QUERIES, KEYS])),
  multiHead('with a mask per image', 6, {}, normal([BATCH, 1, QUERIES, KEYS])),
];

export const REDUCTION_SAMPLES: readonly Sample[] = [
  ...SOFTMAX,
  ...NORMS,
  ...RUNNING,
  ...REDUCE,
  ...RANKED,
  ...POOLING,
  ...ATTENTION,
];
