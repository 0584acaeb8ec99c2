/** How many devices each way of sharing a model's work has; their product is the number of devices. */

export interface MeshShape {
  /** Ranks that split the tensors of a stage. */
  readonly tensor: number;
  /** Groups that each compute one pass of guidance. */
  readonly guidance: number;
  /** Stages, each with a part of the model, that pass the work on. */
  readonly pipeline: number;
  /** Groups that make pictures side by side. */
  readonly replicas: number;
}

/** The passes of classifier-free guidance. */
export const PASSES = 2;

export const meshSize = ({ tensor, guidance, pipeline, replicas }: MeshShape): number =>
  tensor * guidance * pipeline * replicas;

/** Groups of workers side by side; each has all of the model. */
export const sides = ({ guidance, replicas }: MeshShape): number => guidance * replicas;

/** Whether each pass of guidance is a run of its own, of a batch of one, instead of a row of one batch. */
export const runsPassesApart = ({ guidance, pipeline }: MeshShape): boolean => guidance > 1 || pipeline > 1;

const divisors = (count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => index + 1).filter((divisor) => count % divisor === 0);

/** Every shape whose product is that number of devices. */
export const shapesOf = (devices: number): readonly MeshShape[] =>
  divisors(devices).flatMap((tensor) =>
    divisors(devices / tensor).flatMap((pipeline) =>
      divisors(devices / tensor / pipeline)
        .filter((guidance) => guidance <= PASSES)
        .map((guidance) => ({ tensor, guidance, pipeline, replicas: devices / tensor / pipeline / guidance })),
    ),
  );

/** `tensor 2 x guidance 2`; ways with one device are left out. */
export const shapeText = (shape: MeshShape): string => {
  const ways = (['tensor', 'guidance', 'pipeline', 'replicas'] as const).filter((way) => shape[way] > 1);
  return ways.map((way) => `${way} ${shape[way]}`).join(' x ') || 'one device';
};
