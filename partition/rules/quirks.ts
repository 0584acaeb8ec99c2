/**
 * What providers get wrong, as data: where a provider's kernel gives wrong numbers or refuses, how an operand would have to
 * lie for it not to, and how that is known. The planner keeps a rank's parts clear of sizes that fail (`plan/states.ts`); what no
 * split can keep clear is filled up with zeros, and angles are turned back to where they are right, when the rank's graph is made
 * (`segments/`). Adding a quirk is one entry here and one row of its test.
 */
import type { Provider } from '../../common/onnxruntime.js';
import { intAttribute, type Node } from '../graph/graph.js';
import { localShape, REPLICATE } from '../graph/placement.js';
import { operatorKey } from './index.js';
import type { Row } from './rule.js';

/** Axes of a node's inputs that hold the same numbers, such as a convolution's channels: by input, the axis. */
export type SharedAxis = Readonly<Record<number, number>>;

/**
 * `multiple`: the axis' size must be a multiple of `of`; zeros along it change no result. `turn`: the first input is an angle,
 * from which whole turns are to be taken away.
 */
export type Remedy =
  | { readonly kind: 'multiple'; readonly axis: SharedAxis; readonly of: number }
  | { readonly kind: 'turn' };

export interface Quirk {
  readonly provider: Provider;
  readonly operator: string;
  /** Whether the kernel fails at these sizes. Index of `inputs` and `outputs` is the operand's. */
  readonly fails: (
    node: Node,
    inputs: readonly (readonly number[])[],
    outputs: readonly (readonly number[])[],
  ) => boolean;
  readonly remedy: Remedy;
  /** What was seen, and where it is told of. */
  readonly evidence: string;
}

const hasWindow = ([, weight = []]: readonly (readonly number[])[]): boolean =>
  weight.slice(2).some((size) => size > 1);

export const QUIRKS: readonly Quirk[] = [
  {
    provider: 'webgpu',
    operator: 'Conv',
    fails: (node, inputs, outputs) => {
      const channels = inputs[0]?.[1] ?? 0;
      const isThrees = channels > 3 && channels % 3 === 0 && channels % 4 !== 0;
      return intAttribute(node, 'group', 1) === 1 && hasWindow(inputs) && isThrees && (outputs[0]?.[1] ?? 0) % 4 === 0;
    },
    remedy: { kind: 'multiple', axis: { 0: 1, 1: 1 }, of: 4 },
    evidence:
      'ONNX Runtime 1.30 reads input channels in threes where three divides them and four does not, and sums them wrongly where there are more than three: 3x3 kernels of 6, 9, 15, 18, 21 and 27 channels to 4, 8 or 36 are off by 0.4 to 1.5 of the largest result on SwiftShader; 1x1 kernels, 5, 7, 10, 16, 24 channels, or outputs that four does not divide are right. Also https://github.com/microsoft/onnxruntime/issues/29651',
  },
  ...(['Sin', 'Cos'] as const).map(
    (operator): Quirk => ({
      provider: 'webgpu',
      operator,
      fails: ({ inputs: [angle] }) => angle?.dtype === 'float32',
      remedy: { kind: 'turn' },
      evidence:
        'WGSL promises sines between -pi and pi only (within 2^-11, https://www.w3.org/TR/WGSL/#concrete-float-accuracy), and ONNX Runtime 1.30 takes no turns away before: at SwiftShader a sine is 2e-4 off there, 7e-4 at angles up to 10,000, 0.09 at 1,000,000, as in the embedding of the timesteps of Z-Image.',
    }),
  ),
];

const localShapes = (values: Node['inputs'], placements: Row['inputs'], rank: number): readonly (readonly number[])[] =>
  values.map((value, i) => (value?.shape ? localShape(value.shape, placements[i] ?? REPLICATE, rank) : []));

/** The quirk that a node meets on one rank's provider when it runs as `row` says; undefined where it meets none. */
export const findQuirk = (node: Node, row: Row, rank: number, provider: Provider | undefined): Quirk | undefined => {
  const known = QUIRKS.filter((quirk) => quirk.provider === provider && quirk.operator === operatorKey(node));
  if (known.length === 0) return undefined;
  const inputs = localShapes(node.inputs, row.inputs, rank);
  const outputs = localShapes(node.outputs, row.outputs, rank);
  return known.find((quirk) => quirk.fails(node, inputs, outputs));
};
