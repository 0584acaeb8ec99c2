/**
 * What a sharding rule is. A rule says, for one operator, which placements of its operands go together: a *row*.
 * Rules know nothing of costs or of the graph around the node; rows are found by asking "if this operand lies so, how must
 * the others lie?" along the graph (`place.ts`), so that only splits that can arise are ever looked at.
 */
import type { Provider } from '../../common/onnxruntime.js';
import type { Node, Value } from '../graph/graph.js';
import type { Placement, Shard } from '../graph/placement.js';

/** One legal combination of placements; an operand that is left out has `replicate`. */
export interface Row {
  readonly inputs: readonly Placement[];
  readonly outputs: readonly Placement[];
}

/** An input or output of a node. */
export interface Operand {
  readonly side: 'inputs' | 'outputs';
  readonly index: number;
}

/** An axis of an input. */
export interface Seed {
  readonly input: number;
  readonly axis: number;
}

/** Legal, perhaps in a second way that cuts other operands as finely as their neighbours do; legal if the operand were split at other places; or not at all. */
export type Match =
  | { readonly kind: 'row'; readonly row: Row; readonly finer?: Row }
  | { readonly kind: 'wants'; readonly shards: readonly Shard[] }
  | { readonly kind: 'illegal' };

export const ILLEGAL: Match = { kind: 'illegal' };

export interface PlaceContext {
  /** Relative speed per rank; its length is the world size. */
  readonly speeds: readonly number[];
  /** How a value may be split as far as the search has come. */
  readonly known?: (value: Value) => readonly Shard[];
  /** Whether rows may be split where a window goes over them (`window.ts`). */
  readonly rows?: boolean;
  /** Whether a value is the same all along an axis; never where absent. */
  readonly isRepeated?: (value: Value, axis: number) => boolean;
  /** Per rank, for what each gets wrong (`quirks.ts`); nothing where absent. */
  readonly providers?: readonly Provider[];
}

/** What changes in a node when it runs on a rank's part: attributes by name, and integer constants by input index. */
export interface LocalEdit {
  readonly ints?: Readonly<Record<string, number | readonly number[]>>;
  readonly constants?: Readonly<Record<number, readonly number[]>>;
  /** What the result is multiplied by: a rank's mean counts as much as the rank has of all. */
  readonly scale?: number;
}

/** A node's operands on one rank: their shapes, and the row that made them so. */
export interface LocalShapes {
  readonly rank: number;
  readonly row: Row;
  readonly inputs: readonly (readonly number[] | undefined)[];
  readonly outputs: readonly (readonly number[] | undefined)[];
}

/** Operators that a device runs at about the same rates. */
export const OPERATOR_CLASSES = [
  'conv',
  'matmul',
  'attention',
  'quantised',
  'softmax',
  'norm',
  'elementwise',
  'move',
] as const;
export type OperatorClass = (typeof OPERATOR_CLASSES)[number];

/** What is known of an operator whether or not it can be split. */
export interface Facts {
  /** What it costs like. A `view` costs nothing: only the shape changes, and ONNX Runtime hands the same memory on. */
  readonly cost: OperatorClass | 'view' | ((node: Node) => OperatorClass);
  /** It multiplies its first two inputs and sums, so that a split of what is summed leaves it partial. */
  readonly isProduct?: true;
  /** It gives something else at each call, and so on each rank. */
  readonly isRandom?: true;
}

/** An operator that every rank runs whole. */
export interface Whole extends Facts {
  /** Why, and what would help. */
  readonly whole: string;
}

export interface Rule extends Facts {
  /** The row in which `operand` lies as `shard` says. */
  match(node: Node, operand: Operand, shard: Shard, context: PlaceContext): Match;
  /** Factors that are worth splitting for the node's own sake, each with the inputs' axes that carry it. */
  seeds(node: Node): readonly (readonly Seed[])[];
  /** Sets of inputs in which the operator is linear together: where all of a set are partial, so are the outputs. */
  linear(node: Node): readonly (readonly number[])[];
  /** Floating-point operations of the whole node. */
  flops(node: Node): number;
  localise?(node: Node, local: LocalShapes): LocalEdit;
}

export type Operator = Rule | Whole;

export const shapeOf = (value: Value | undefined): readonly number[] => value?.shape ?? [];

/** Whether every operand that is there has a static shape. */
export const isStatic = (node: Node): boolean =>
  [...node.inputs, ...node.outputs].every((value) => value === undefined || value.shape !== undefined);
