/** How many devices each way of sharing a model's work has; their product is the number of devices. */
import type { Split } from '../request.js';

export interface MeshShape {
  /** Ranks that split the tensors of a stage. */
  readonly tensor: number;
  /** Ranks that split the tokens or rows of a stage, each with all of its weights; 1 where tensors are split. */
  readonly tokens: number;
  /** Groups that each compute one pass of guidance. */
  readonly guidance: number;
  /** Stages, each with a part of the model, that pass the work on. */
  readonly pipeline: number;
  /** Groups that make pictures side by side. */
  readonly replicas: number;
}

/** The passes of classifier-free guidance. */
export const PASSES = 2;

export const meshSize = ({ tensor, tokens, guidance, pipeline, replicas }: MeshShape): number =>
  tensor * tokens * guidance * pipeline * replicas;

/** What the ranks of a stage divide among them. */
export const splitOf = ({ tokens }: Pick<MeshShape, 'tokens'>): Split => (tokens > 1 ? 'tokens' : 'tensor');

/** Groups of workers side by side; each has all of the model. */
export const sides = ({ guidance, replicas }: MeshShape): number => guidance * replicas;

/** Whether each pass of guidance is a run of its own, of a batch of one, instead of a row of one batch. */
export const runsPassesApart = ({ guidance, pipeline }: MeshShape): boolean => guidance > 1 || pipeline > 1;

const divisors = (count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => index + 1).filter((divisor) => count % divisor === 0);

/** Every shape whose product is that number of devices. */
export const shapesOf = (devices: number): readonly MeshShape[] =>
  divisors(devices).flatMap((ranks) =>
    divisors(devices / ranks).flatMap((pipeline) =>
      divisors(devices / ranks / pipeline)
        .filter((guidance) => guidance <= PASSES)
        .flatMap((guidance) => {
          const rest = { guidance, pipeline, replicas: devices / ranks / pipeline / guidance };
          const byTensor = { tensor: ranks, tokens: 1, ...rest };
          return ranks === 1 ? [byTensor] : [byTensor, { tensor: 1, tokens: ranks, ...rest }];
        }),
    ),
  );

/** Every way, in the order in which devices are laid out from the inside outwards. */
export const WAYS = [
  'tensor',
  'tokens',
  'guidance',
  'pipeline',
  'replicas',
] as const satisfies readonly (keyof MeshShape)[];

/** All on one device; a base for shapes. */
export const ONE_DEVICE: MeshShape = { tensor: 1, tokens: 1, guidance: 1, pipeline: 1, replicas: 1 };

/** `tensor 2 x guidance 2`; ways with one device are left out. */
export const shapeText = (shape: MeshShape): string => {
  const ways = WAYS.filter((way) => shape[way] > 1);
  return ways.map((way) => `${way} ${shape[way]}`).join(' x ') || 'one device';
};
