/** Proof by numbers: real workers against the whole model in one ONNX Runtime session, on the same random inputs. */

import { compareOutputs, type Difference } from '../../common/compare.js';
import type { HostTensor } from '../../common/tensor.js';
import { type PlanReport, plan } from '../../partition/index.js';
import type { Quantize, WireDtype } from '../../partition/write/manifest.js';
import { type Cluster, doAgree } from '../cluster/index.js';
import type { ClusterSettings } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { openPlainModel } from '../plain/index.js';
import { denoiserRequest, type OpenedModel } from '../shards/request.js';
import { closing, prepareModel, withCluster } from '../start-cluster.js';
import { randomInputs } from './random-inputs.js';
import { INT8_WIRE_MIN_PSNR_DB, rememberWireError } from './wire-error.js';

/** Allowed max |a - b| / max |b|: rounding of another order of sums in fp32; the wire's rounding in fp16. */
export const TOLERANCE = { fp32: 1e-4, fp16: 1e-2 } as const;

/** Least PSNR of int8 weights: single values may be far off where the whole is close, so their errors say little. */
export const INT8_MIN_PSNR_DB = 30;

export interface VerifyRequest extends Hooks, ClusterSettings, OpenedModel {
  /** Of the random inputs. */
  readonly seed: number;
  /** Greatest `max_rel_error` that passes; where absent `TOLERANCE` of the wire type, or `INT8_MIN_PSNR_DB`. */
  readonly tolerance?: number;
  /** How many steps, each on other inputs; 1 where absent. */
  readonly rounds?: number;
}

type Outputs = Readonly<Record<string, HostTensor>>;

type PlanPart = Pick<
  PlanReport,
  | 'world_size'
  | 'ranks'
  | 'sharded_weight_fraction'
  | 'sharded_flop_fraction'
  | 'segments'
  | 'collective_count'
  | 'wire_bytes_per_step'
>;

/** What `tandem verify` says; the JSON keys are a contract. */
export interface VerifyReport extends Difference, PlanPart {
  readonly passed: boolean;
  /** Whether every rank ended with the same bits, or, on unlike devices, with the same numbers but for rounding. */
  readonly ranks_agree: boolean;
  /** Limit of `max_rel_error`; null where `min_psnr_db` is the limit. */
  readonly tolerance: number | null;
  /** Limit of `psnr_db`, for int8 weights; null where `tolerance` is the limit. */
  readonly min_psnr_db: number | null;
  readonly wire_dtype: WireDtype;
  readonly quantize: Quantize;
  readonly seed: number;
  readonly rounds: number;
}

interface Round extends Difference {
  readonly ranksAgree: boolean;
}

const worst = (differences: readonly Difference[]): Difference => ({
  max_abs_error: Math.max(...differences.map((difference) => difference.max_abs_error)),
  max_rel_error: Math.max(...differences.map((difference) => difference.max_rel_error)),
  psnr_db: Math.min(...differences.map((difference) => difference.psnr_db)),
});

const planPart = async (request: VerifyRequest): Promise<PlanPart> => {
  const report = await plan(denoiserRequest(request, request), request);
  return {
    world_size: report.world_size,
    ranks: report.ranks,
    sharded_weight_fraction: report.sharded_weight_fraction,
    sharded_flop_fraction: report.sharded_flop_fraction,
    segments: report.segments,
    collective_count: report.collective_count,
    wire_bytes_per_step: report.wire_bytes_per_step,
  };
};

/** Calls `step` for every round, one after the other. */
const eachRound = async <T>(
  request: VerifyRequest,
  stage: string,
  inputs: readonly Outputs[],
  step: (feeds: Outputs, index: number) => Promise<T>,
): Promise<readonly T[]> => {
  const results: T[] = [];
  for (const [index, feeds] of inputs.entries()) {
    request.onProgress?.(stage, index, inputs.length);
    results.push(await step(feeds, index));
  }
  request.onProgress?.(stage, inputs.length, inputs.length);
  return results;
};

/** The reference's outputs; its process is gone before the workers start, so that both need not fit in memory. */
const referenceOutputs = async (request: VerifyRequest, inputs: readonly Outputs[]): Promise<readonly Outputs[]> => {
  const model = await openPlainModel({
    model: request.model.path,
    provider: 'cpu',
    deviceId: 0,
    threads: request.devices.reduce((sum, device) => sum + device.threads, 0),
    timeouts: request.timeouts,
    ...(request.signal ? { signal: request.signal } : {}),
  });
  return closing(request.signal, model.close, () =>
    eachRound(
      request,
      'whole model',
      inputs,
      async (feeds) => (await model.step(feeds, { wantOutputs: true })).outputs,
    ),
  );
};

const clusterRound = async (
  cluster: Cluster,
  { devices }: VerifyRequest,
  inputs: Outputs,
  expected: Outputs,
): Promise<Round> => {
  const { ranks } = await cluster.step([inputs], { outputs: 'all', mayDisagree: true });
  const differences = ranks.map(({ outputs }) => compareOutputs(outputs?.[0] ?? {}, expected));
  return { ...worst(differences), ranksAgree: doAgree(ranks, devices) };
};

type Limits = Pick<VerifyReport, 'tolerance' | 'min_psnr_db'>;

const limitsOf = ({ tolerance, quantize, wire }: VerifyRequest): Limits => {
  if (tolerance !== undefined) return { tolerance, min_psnr_db: null };
  if (quantize === 'int8') return { tolerance: null, min_psnr_db: INT8_MIN_PSNR_DB };
  if (wire.dtype === 'int8') return { tolerance: null, min_psnr_db: INT8_WIRE_MIN_PSNR_DB };
  return { tolerance: TOLERANCE[wire.dtype], min_psnr_db: null };
};

const isWithin = (difference: Difference, { tolerance, min_psnr_db }: Limits): boolean =>
  difference.max_rel_error <= (tolerance ?? Number.POSITIVE_INFINITY) &&
  difference.psnr_db >= (min_psnr_db ?? Number.NEGATIVE_INFINITY);

/**
 * Runs the model whole and on workers, one per device, and compares what comes out.
 * @throws TandemError as `plan`, `prepareShards`, `launchCluster` and `openPlainModel` do. A difference beyond
 *   the limit is a report with `passed: false`, not an error.
 */
export const verify = async (request: VerifyRequest): Promise<VerifyReport> => {
  const planned = await planPart(request);
  const ready = await prepareModel(request, { ...request, networks: [] }, request);
  const count = request.rounds ?? 1;
  const inputs = Array.from({ length: count }, (_, round) =>
    randomInputs(ready.shards.profile.inputs, request.seed + round),
  );
  const expected = await referenceOutputs(request, inputs);
  const rounds = await withCluster(ready, request, request, ({ cluster }) =>
    eachRound(request, 'workers', inputs, (feeds, index) =>
      clusterRound(cluster, request, feeds, expected[index] ?? {}),
    ),
  );
  const limits = limitsOf(request);
  const difference = worst(rounds);
  await rememberWireError(request, request, difference.psnr_db);
  const agree = rounds.every(({ ranksAgree }) => ranksAgree);
  return {
    passed: agree && isWithin(difference, limits),
    ...difference,
    ranks_agree: agree,
    ...limits,
    seed: request.seed,
    rounds: count,
    wire_dtype: request.wire.dtype,
    quantize: request.quantize,
    ...planned,
  };
};
