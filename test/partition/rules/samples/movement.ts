/** Samples of the operators that move elements: reshapes, transposes, parts of an axis, padding and resizing. */
import { below, ints, normal, numbers, type Sample, type SampleInput, sample } from '../sample.js';

const END = 2 ** 62;

const reshape = (variant: string, from: readonly number[], to: readonly number[], attributes = {}): Sample =>
  sample('Reshape', [normal(from), ints(to)], { variant, attributes });

const RESHAPE = [
  reshape('heads split off', [2, 5, 12], [2, 5, 6, 2]),
  reshape('heads joined', [2, 5, 6, 2], [2, 5, 12]),
  reshape('with 0 and -1', [2, 5, 12], [0, 0, 6, -1]),
  reshape('batch and heads merged', [2, 6, 5, 3], [12, 5, 3]),
  reshape('batch and heads parted', [12, 5, 3], [2, 6, 5, 3]),
  reshape('batch and heads merged by -1', [3, 4, 5, 2], [-1, 5, 2]),
  reshape('space flattened', [2, 6, 4, 3], [2, 6, 12]),
  reshape('channels in groups', [2, 12, 3, 4], [2, 4, -1]),
  reshape('all flattened', [3, 4, 5], [-1]),
  reshape('factors regrouped', [6, 10], [4, 15]),
  reshape('sizes of 1 added and removed', [1, 6, 1, 4], [6, 1, 4, 1]),
  reshape('the same shape', [3, 4, 5], [3, 4, 5]),
  reshape('three factors parted', [2, 24], [2, 3, 4, 2]),
  reshape('fused query, key and value', [2, 5, 18], [2, 5, 3, 3, 2]),
  reshape('patches', [2, 4, 6, 6], [2, 4, 3, 2, 3, 2]),
  reshape('with a real zero allowed', [3, 4, 5], [3, 20], { allowzero: 1 }),
  sample('Flatten', [normal([3, 4, 5])]),
  sample('Flatten', [normal([3, 4, 5])], { variant: 'from axis 2', attributes: { axis: 2 } }),
  sample('Flatten', [normal([3, 4, 5])], { variant: 'from axis 0', attributes: { axis: 0 } }),
  sample('Flatten', [normal([3, 4, 5])], { variant: 'from axis -1', attributes: { axis: -1 } }),
  sample('Squeeze', [normal([3, 1, 5, 1]), ints([1])]),
  sample('Squeeze', [normal([3, 1, 5, 1]), ints([-1, 1])], { variant: 'of two axes' }),
  sample('Squeeze', [normal([3, 1, 5, 1])], { variant: 'of all axes of size 1' }),
  sample('Squeeze', [normal([3, 1, 5, 1])], { variant: 'before opset 13', opset: 11, attributes: { axes: [1, 3] } }),
  sample('Unsqueeze', [normal([3, 5]), ints([0, -1])]),
  sample('Unsqueeze', [normal([3, 5])], { variant: 'before opset 13', opset: 11, attributes: { axes: [1] } }),
];

const MOVES = [
  sample('Transpose', [normal([3, 4, 5])]),
  sample('Transpose', [normal([3, 4, 5, 2])], { variant: 'by a cycle', attributes: { perm: [0, 2, 3, 1] } }),
  sample('Expand', [normal([3, 1, 5]), ints([3, 4, 5])]),
  sample('Expand', [normal([3, 1, 5]), ints([1, 4, 1])], { variant: 'with sizes of 1' }),
  sample('Expand', [normal([4, 1]), ints([2, 3, 4, 5])], { variant: 'to a higher rank' }),
  sample('Expand', [normal([1]), ints([4, 5])], { variant: 'from one element' }),
  sample('Tile', [normal([3, 4, 5]), ints([1, 2, 1])]),
  sample('Tile', [normal([3, 4]), ints([2, 1])], { variant: 'along the first axis' }),
  sample('Gather', [normal([5, 6, 4]), below(5, [3])]),
  sample('Gather', [normal([5, 6, 4]), below(6, [3, 2])], { variant: 'along axis 1', attributes: { axis: 1 } }),
  sample('Gather', [normal([5, 6, 4]), below(4, [3])], { variant: 'along axis -1', attributes: { axis: -1 } }),
  sample('Gather', [normal([5, 6, 4]), ints([2], [])], { variant: 'by a scalar', attributes: { axis: 1 } }),
  sample('Gather', [normal([5, 6, 4]), ints([-1, 0])], { variant: 'by a negative index', attributes: { axis: 2 } }),
];

const one = normal([3, 4]);

const PARTS = [
  sample('Concat', [normal([3, 4]), normal([3, 4])], { attributes: { axis: 1 } }),
  sample('Concat', [normal([2, 8, 3]), normal([2, 5, 3])], { variant: 'of unlike parts', attributes: { axis: 1 } }),
  sample('Concat', [normal([3, 4]), normal([3, 5]), normal([3, 3])], { variant: 'of three', attributes: { axis: -1 } }),
  sample('Concat', [one, one], { variant: 'of one tensor twice', attributes: { axis: 0 } }),
  sample('Concat', [normal([3, 4]), normal([3, 1])], { variant: 'with a part of size 1', attributes: { axis: 1 } }),
  sample('Split', [normal([3, 8]), ints([5, 3])], { outputs: 2, attributes: { axis: 1 } }),
  sample('Split', [normal([3, 9])], { variant: 'in equal parts', outputs: 3, attributes: { axis: -1 } }),
  sample('Split', [normal([3, 8])], {
    variant: 'before opset 13',
    opset: 11,
    outputs: 2,
    attributes: { axis: 1, split: [3, 5] },
  }),
  sample('Split', [normal([3, 11])], {
    variant: 'with a smaller last part',
    opset: 18,
    outputs: 3,
    attributes: { axis: 1, num_outputs: 3 },
  }),
];

interface Bounds {
  readonly starts: readonly number[];
  readonly ends: readonly number[];
  readonly axes?: readonly number[];
  readonly steps?: readonly number[];
}

const slice = (variant: string, shape: readonly number[], { starts, ends, axes, steps }: Bounds): Sample =>
  sample('Slice', [normal(shape), ints(starts), ints(ends), axes && ints(axes), ...(steps ? [ints(steps)] : [])], {
    variant,
  });

const SLICE = [
  slice('of the first half', [3, 8], { starts: [0], ends: [4], axes: [1] }),
  slice('of the second half', [3, 8], { starts: [4], ends: [END], axes: [1] }),
  slice('of the middle', [3, 9], { starts: [3], ends: [6], axes: [-1] }),
  slice('of an uneven part', [3, 9], { starts: [-5], ends: [8], axes: [1] }),
  slice('without axes', [6, 8], { starts: [1, 0], ends: [5, 8] }),
  slice('of two axes', [4, 6, 8], { starts: [2, 4], ends: [6, 8], axes: [1, 2] }),
  slice('with step 2', [5, 8], { starts: [0], ends: [8], axes: [1], steps: [2] }),
  slice('backwards', [5, 8], { starts: [-1], ends: [-END], axes: [1], steps: [-1] }),
  slice('forwards on one axis and backwards on another', [6, 5], {
    starts: [0, -1],
    ends: [3, -END],
    axes: [0, 1],
    steps: [1, -1],
  }),
  slice('that takes everything', [5, 6], { starts: [0, -100], ends: [END, 100], axes: [0, 1] }),
  sample('Slice', [normal([3, 8])], {
    variant: 'before opset 10',
    opset: 9,
    attributes: { axes: [1], starts: [0], ends: [4] },
  }),
];

const pad = (variant: string, shape: readonly number[], pads: readonly number[], mode = 'constant'): Sample =>
  sample('Pad', [normal(shape), ints(pads)], { variant, attributes: { mode } });

const SQUARES = [
  sample('DepthToSpace', [normal([3, 12, 3, 2])], { variant: 'DCR', attributes: { blocksize: 2, mode: 'DCR' } }),
  sample('DepthToSpace', [normal([3, 12, 3, 2])], { variant: 'CRD', attributes: { blocksize: 2, mode: 'CRD' } }),
  sample('SpaceToDepth', [normal([3, 3, 4, 6])], { attributes: { blocksize: 2 } }),
  sample('Trilu', [normal([3, 4, 5])]),
  sample('Trilu', [normal([3, 3, 4, 5]), ints([1], [])], { variant: 'above a diagonal', attributes: { upper: 1 } }),
  sample('GridSample', [normal([3, 4, 5, 6]), normal([3, 2, 7, 2])]),
];

const PAD = [
  pad('', [3, 4, 5], [0, 0, 1, 0, 0, 2]),
  pad('by reflection', [3, 4, 5], [0, 0, 2, 0, 0, 1], 'reflect'),
  pad('by its edges', [3, 4, 5], [0, 1, 0, 0, 1, 0], 'edge'),
  pad('that crops', [3, 4, 5], [0, 0, -1, 0, 0, -1]),
  pad('that moves', [3, 4, 5], [0, 1, 0, 0, -1, 0]),
  sample('Pad', [normal([3, 4, 5]), ints([0, 0, 1, 0, 0, 2]), numbers([1.5], [])], { variant: 'with a value' }),
  sample('Pad', [normal([3, 4, 5]), ints([2, 1]), undefined, ints([-1])], { variant: 'of named axes', opset: 18 }),
];

const IMAGE = [2, 5, 4, 3];

const resize = (variant: string, inputs: Parameters<typeof sample>[1], attributes = {}, opset = 17): Sample =>
  sample('Resize', [normal(IMAGE), ...inputs], { variant, attributes, opset });

const NEAREST = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' };
const scales = (values: readonly number[]): SampleInput => ({ ...numbers(values, [values.length]), isConstant: true });

const RESIZE = [
  resize('by scales', [undefined, scales([1, 1, 2, 2])], NEAREST),
  resize('half pixels', [undefined, scales([1, 1, 3, 2])], { mode: 'nearest' }),
  resize('to sizes', [undefined, undefined, ints([2, 5, 8, 6])], NEAREST),
  resize('linear', [undefined, undefined, ints([2, 5, 7, 5])], { mode: 'linear' }),
  resize('cubic', [undefined, scales([1, 1, 2, 2])], { mode: 'cubic' }),
  resize('of named axes', [undefined, undefined, ints([8, 6])], { ...NEAREST, axes: [2, 3] }, 18),
  resize('of all axes, named', [undefined, undefined, ints([6, 8, 5, 2])], { ...NEAREST, axes: [3, 2, 1, 0] }, 18),
  resize('with cropping', [numbers([0, 0, 0, 0, 1, 1, 2, 2], [8]), undefined, ints([2, 5, 6, 6])], {
    mode: 'linear',
    coordinate_transformation_mode: 'tf_crop_and_resize',
  }),
  resize('with a value outside', [numbers([0, 0, 0, 0, 1, 1, 2, 2], [8]), undefined, ints([2, 5, 6, 6])], {
    mode: 'linear',
    coordinate_transformation_mode: 'tf_crop_and_resize',
    extrapolation_value: { float: 3 },
  }),
  resize('in opset 10', [scales([1, 1, 2, 2])], { mode: 'nearest' }, 10),
  resize('by scales of later axes', [undefined, scales([2, 2])], { ...NEAREST, axes: [2, 3] }, 18),
  resize(
    'that keeps proportions',
    [undefined, undefined, ints([8, 9])],
    { ...NEAREST, axes: [2, 3], keep_aspect_ratio_policy: 'not_larger' },
    18,
  ),
  resize('by a scale that changes no size', [undefined, scales([1, 1, 1.2, 2])], { mode: 'linear' }),
  sample('Upsample', [normal(IMAGE), scales([1, 1, 2, 3])], { opset: 9, attributes: { mode: 'nearest' } }),
  sample('Upsample', [normal(IMAGE), scales([1, 1, 2, 2])], {
    variant: 'linear',
    opset: 9,
    attributes: { mode: 'linear' },
  }),
];

export const MOVEMENT_SAMPLES: readonly Sample[] = [
  ...RESHAPE,
  ...MOVES,
  ...PARTS,
  ...SLICE,
  ...SQUARES,
  ...PAD,
  ...RESIZE,
];
