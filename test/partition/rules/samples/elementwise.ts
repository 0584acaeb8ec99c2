/** Samples of the operators that work on each element by itself. */
import { below, ints, normal, numbers, positive, type Sample, type SampleInput, sample, strange } from '../sample.js';

const SHAPE = [3, 7, 4];

const plain = (ops: readonly string[], input: () => SampleInput, opset = 17): readonly Sample[] =>
  ops.map((op) => sample(op, [input()], { opset }));

const UNARY = [
  ...plain(['Abs', 'Atan', 'Ceil', 'Celu', 'Cos', 'Elu', 'Erf', 'Exp', 'Floor', 'HardSigmoid'], () => normal(SHAPE)),
  ...plain(['HardSwish', 'Identity', 'LeakyRelu', 'Neg', 'Relu', 'Round', 'Selu', 'Shrink', 'Sigmoid'], () =>
    normal(SHAPE),
  ),
  ...plain(['Sign', 'Sin', 'Softplus', 'Softsign', 'Tan', 'Tanh', 'ThresholdedRelu'], () => normal(SHAPE)),
  ...plain(['Log', 'Reciprocal', 'Sqrt'], () => positive(SHAPE)),
  ...plain(['IsInf', 'IsNaN'], () => strange(SHAPE)),
  ...plain(['Mish'], () => normal(SHAPE), 18),
  ...plain(['Gelu'], () => normal(SHAPE), 20),
  ...plain(['Swish'], () => normal(SHAPE), 24),
  ...plain(['com.microsoft::Gelu', 'com.microsoft::QuickGelu'], () => normal(SHAPE)),
  sample('Gelu', [normal(SHAPE)], { variant: 'by tanh', opset: 20, attributes: { approximate: 'tanh' } }),
  sample('Not', [normal(SHAPE, 'bool')]),
  sample('Identity', [below(50, SHAPE)], { variant: 'of int64' }),
];

/** Second operands that broadcast in different ways against `SHAPE`. */
const PARTNERS: Readonly<Record<string, readonly number[]>> = {
  '': SHAPE,
  'with a row': [4],
  'with a column': [7, 1],
  'with a scalar': [],
  'with a size of 1 in the middle': [3, 1, 4],
};

const binary = (op: string, make: (shape: readonly number[]) => SampleInput): readonly Sample[] => [
  ...Object.entries(PARTNERS).map(([variant, shape]) => sample(op, [make(SHAPE), make(shape)], { variant })),
  sample(op, [make([1, 7, 1]), make([3, 1, 4])], { variant: 'with both broadcast' }),
  sample(op, [make([6]), make([2, 6])], { variant: 'with the first of a lower rank' }),
];

const BINARY = [
  ...['Add', 'Sub', 'Mul', 'Max', 'Min', 'Sum'].flatMap((op) => binary(op, (shape) => normal(shape))),
  ...['Div', 'Pow'].flatMap((op) => binary(op, (shape) => positive(shape))),
  ...['Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual'].flatMap((op) => binary(op, (shape) => normal(shape))),
  ...binary('Equal', (shape) => below(3, shape)),
  ...['And', 'Or', 'Xor'].flatMap((op) => binary(op, (shape) => normal(shape, 'bool'))),
  sample('Mod', [below(50, SHAPE), ints([7, 3, 5, 4])]),
  sample('Mod', [positive(SHAPE), positive([7, 1])], { variant: 'of floats', attributes: { fmod: 1 } }),
  sample('BitShift', [below(50, SHAPE, 'uint32'), below(3, [4], 'uint32')], { attributes: { direction: 'LEFT' } }),
  sample('Add', [below(50, SHAPE), below(50, SHAPE)], { variant: 'of int64' }),
  sample('Mul', [normal(SHAPE, 'float16'), normal([4], 'float16')], { variant: 'of float16' }),
];

/** `make` is called once, so that both operands have the same elements. */
const twice = (op: string, input: SampleInput): Sample =>
  sample(op, [input, input], { variant: 'of one tensor twice' });

const OTHERS = [
  ...['Add', 'Mul', 'Div'].map((op) => twice(op, positive(SHAPE))),
  ...['Sum', 'Max', 'Min'].map((op) =>
    sample(op, [normal(SHAPE), normal([4]), normal([7, 1])], { variant: 'of three' }),
  ),
  sample('PRelu', [normal(SHAPE), normal(SHAPE)]),
  sample('PRelu', [normal(SHAPE), normal([7, 1])], { variant: 'with a slope per channel' }),
  sample('Clip', [normal(SHAPE), numbers([-0.5], []), numbers([0.5], [])]),
  sample('Clip', [normal(SHAPE), undefined, numbers([0.5], [])], { variant: 'without a minimum' }),
  sample('Clip', [normal(SHAPE)], { variant: 'without bounds' }),
  sample('Where', [normal(SHAPE, 'bool'), normal(SHAPE), normal(SHAPE)]),
  sample('Where', [normal([7, 1], 'bool'), normal([4]), normal([3, 1, 1])], { variant: 'with all broadcast' }),
  sample('Where', [normal([1, 1, 4], 'bool'), normal(SHAPE), numbers([-1e4], [])], { variant: 'with a scalar' }),
  sample('Dropout', [normal(SHAPE)]),
  sample('Dropout', [normal(SHAPE), numbers([0.5], [])], { variant: 'with its mask', outputs: 2 }),
  sample('Cast', [normal(SHAPE)], { variant: 'to float16', attributes: { to: 10 } }),
  sample('Cast', [normal(SHAPE)], { variant: 'to float64', attributes: { to: 11 } }),
  sample('Cast', [below(50, SHAPE)], { variant: 'from int64', attributes: { to: 1 } }),
  sample('Cast', [normal(SHAPE)], { variant: 'to bool', attributes: { to: 9 } }),
  sample('Cast', [normal(SHAPE)], { variant: 'to int32', attributes: { to: 6 } }),
  sample('CastLike', [normal(SHAPE), normal([1], 'float16')], { opset: 19 }),
  sample('CastLike', [normal(SHAPE), below(9, SHAPE)], { variant: 'a tensor of the same shape', opset: 19 }),
  sample('com.microsoft::FastGelu', [normal(SHAPE)]),
  sample('com.microsoft::FastGelu', [normal(SHAPE), normal([4])], { variant: 'with a bias' }),
  sample('com.microsoft::BiasGelu', [normal(SHAPE), normal([4])]),
];

export const ELEMENTWISE_SAMPLES: readonly Sample[] = [...UNARY, ...BINARY, ...OTHERS];
