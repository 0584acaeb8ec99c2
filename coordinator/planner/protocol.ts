/** What the planning thread is asked, and what it gives. */
import type { MessagePort } from 'node:worker_threads';
import type {
  Aim,
  Inspection,
  Manifest,
  MeshCost,
  MeshRequest,
  PipelinePlan,
  PlanReport,
  SplitRequest,
} from '../../partition/index.js';

interface Order<Asked, Given> {
  readonly asked: Asked;
  readonly given: Given;
}

/** A way to use the devices, by how long a step takes. */
export interface TimedMesh {
  readonly cost: MeshCost;
  readonly ms: number;
}

export interface BestMesh {
  /** Of the tensors over all devices; ms. */
  readonly ownMs: number;
  /** Absent where nothing is clearly better. */
  readonly better?: TimedMesh;
}

export interface Orders {
  readonly inspect: Order<{ readonly path: string }, Inspection>;
  readonly ranks: Order<{ readonly request: SplitRequest }, PlanReport['ranks']>;
  readonly pipeline: Order<{ readonly request: SplitRequest; readonly stages: number }, PipelinePlan>;
  readonly mesh: Order<{ readonly request: MeshRequest; readonly aim: Aim }, BestMesh>;
  readonly partition: Order<
    /** `kin`: how the names of shard directories begin whose weights may be shared. */
    { readonly request: SplitRequest; readonly out: string; readonly kin: string },
    Manifest
  >;
}

export type Kind = keyof Orders;

/** One of the orders, with the way on which it tells how far it is; what comes back on it means: stop. */
export type Task = { readonly [K in Kind]: { readonly kind: K; readonly asked: Orders[K]['asked'] } }[Kind] & {
  readonly port: MessagePort;
};

export type Progress = readonly [stage: string, done: number, total: number];
