/**
 * Rows of a picture: operators that look at a window of rows around each of theirs can be split along them, where every rank is
 * given as many rows of its neighbours as its windows reach over the edges of its part. What a window reaches over the edge of the
 * picture is padding, which the ranks at the edges add, and no other. Asked for where tokens are split (`PlaceContext.rows`): with
 * split weights it would only make the search longer.
 */
import {
  constantFloats,
  constantInts,
  intAttribute,
  intsAttribute,
  type Node,
  stringAttribute,
} from '../graph/graph.js';
import { isAligned, isOverlapping, type Piece, REPLICATE, rankRanges, type Shard } from '../graph/placement.js';
import {
  ILLEGAL,
  isStatic,
  type LocalEdit,
  type LocalShapes,
  type Match,
  type Operand,
  type Rule,
  shapeOf,
} from './rule.js';
import { refine } from './signature.js';

/** Rows are the first of the axes that a window goes along: `[batch, channels, rows, ...]`. */
export const ROWS = 2;

/** How rows of the result come of rows of the input: row `i` of those from `i * stride - pad`, `size` of them. */
interface Window {
  readonly size: number;
  readonly stride: number;
  readonly pad: number;
}

/** Undefined where a rank's rows are no whole number of steps, or padding is left to the runtime. */
const windowOf = (node: Node, kernel: readonly number[]): Window | undefined => {
  const at = (name: string, otherwise: number) => intsAttribute(node, name)?.[0] ?? otherwise;
  const isPlain = stringAttribute(node, 'auto_pad', 'NOTSET') === 'NOTSET' && intAttribute(node, 'ceil_mode', 0) === 0;
  const [size, stride, pad] = [((kernel[0] ?? 1) - 1) * at('dilations', 1) + 1, at('strides', 1), at('pads', 0)];
  const [input, output] = [shapeOf(node.inputs[0])[ROWS] ?? 0, shapeOf(node.outputs[0])[ROWS] ?? 0];
  // Rows behind the last window of a part would make one window more.
  const isTight = pad + stride - size < stride;
  return isPlain && isTight && input === output * stride ? { size, stride, pad } : undefined;
};

const scaled = (shard: Shard, factor: number): Shard => ({
  ...shard,
  pieces: shard.pieces.map(
    ({ extent, bounds }): Piece => ({
      extent: Math.round(extent * factor),
      bounds: bounds.map((bound) => Math.round(bound * factor)),
    }),
  ),
});

/** A row for `factor` rows of the input for each of the result, or a part of one. */
const rowFor = (node: Node, { side }: Operand, shard: Shard, factor: number, given: (shard: Shard) => Shard): Match => {
  const [input, output] = side === 'inputs' ? [shard, scaled(shard, 1 / factor)] : [scaled(shard, factor), shard];
  const inputs = node.inputs.map((_, i) => (i === 0 ? given(input) : REPLICATE));
  return { kind: 'row', row: { inputs, outputs: node.outputs.map(() => output) } };
};

const isRows = ({ index }: Operand, shard: Shard): boolean =>
  index === 0 && shard.axis === ROWS && shard.pieces.length === 1 && !isOverlapping(shard);

const matchWindow = (
  node: Node,
  operand: Operand,
  shard: Shard,
  window: Window,
  context: Parameters<Rule['match']>[3],
) => {
  const { size, stride, pad } = window;
  if (operand.side === 'inputs' && !isAligned(shard, stride)) {
    const wanted = refine(shard, stride, context);
    return wanted ? ({ kind: 'wants', shards: [wanted] } as const) : ILLEGAL;
  }
  const halo = { before: pad, after: Math.max(0, size - pad - stride) };
  const given = (input: Shard): Shard => (halo.before + halo.after === 0 ? input : { ...input, halo });
  return rowFor(node, operand, shard, stride, given);
};

/** What a rank's windows reach over the picture's edges: padding for the first and last rows. */
const localWindow = (node: Node, { rank, row }: LocalShapes, { size, stride, pad }: Window): LocalEdit => {
  const [output] = row.outputs;
  const pads = intsAttribute(node, 'pads');
  if (output?.kind !== 'shard' || output.axis !== ROWS || !pads) return {};
  const [[first, last] = [0, 0]] = rankRanges(output, rank);
  const rows = shapeOf(node.inputs[0])[ROWS] ?? 0;
  const before = Math.max(0, pad - first * stride);
  const after = Math.max(0, (last - 1) * stride - pad + size - rows);
  const half = pads.length / 2;
  return { ints: { pads: pads.map((own, i) => (i === 0 ? before : i === half ? after : own)) } };
};

/**
 * A rule that is also split by rows.
 * @param kernel sizes of the window, and of none where the operator has other inputs or attributes than are known
 */
export const byRows = (rule: Rule, kernel: (node: Node) => readonly number[] | undefined): Rule => {
  const find = (node: Node): Window | undefined => {
    const sizes = isStatic(node) ? kernel(node) : undefined;
    return sizes && windowOf(node, sizes);
  };
  return {
    ...rule,
    match: (node, operand, shard, context) => {
      const window = context.rows && isRows(operand, shard) ? find(node) : undefined;
      return window ? matchWindow(node, operand, shard, window, context) : rule.match(node, operand, shard, context);
    },
    localise: (node, local) => {
      const window = find(node);
      return { ...rule.localise?.(node, local), ...(window ? localWindow(node, local, window) : {}) };
    },
  };
};

/** How often a row is repeated; undefined where it is not copied whole, a whole number of times. */
const repeats = (node: Node): number | undefined => {
  const [input, output] = [shapeOf(node.inputs[0]), shapeOf(node.outputs[0])];
  const factor = (output[ROWS] ?? 0) / (input[ROWS] ?? 1);
  const isNearest = stringAttribute(node, 'mode', 'nearest') === 'nearest';
  const where = stringAttribute(node, 'coordinate_transformation_mode', 'half_pixel');
  const rounding = stringAttribute(node, 'nearest_mode', 'round_prefer_floor');
  const isRepeat =
    where === 'half_pixel' ? rounding.startsWith('round') : where === 'asymmetric' && rounding === 'floor';
  const scales = constantFloats(node.inputs[2]) ?? [];
  const isSaid = constantInts(node.inputs[3])?.length || scales[scales.length - input.length + ROWS] === factor;
  return isNearest && isRepeat && isSaid && !node.attributes.has('axes') && Number.isInteger(factor)
    ? factor
    : undefined;
};

/** Resizing by a whole number, which copies each row so many times. */
export const byRepeatedRows = (rule: Rule): Rule => ({
  ...rule,
  match: (node, operand, shard, context) => {
    const factor = context.rows && isStatic(node) && isRows(operand, shard) ? repeats(node) : undefined;
    if (factor === undefined) return rule.match(node, operand, shard, context);
    if (operand.side === 'inputs' || isAligned(shard, factor))
      return rowFor(node, operand, shard, 1 / factor, (input) => input);
    const wanted = refine(shard, factor, context);
    return wanted ? { kind: 'wants', shards: [wanted] } : ILLEGAL;
  },
});
