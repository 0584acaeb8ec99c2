/** Where the networks beside a denoiser would run, for `tandem plan`: read from the graphs alone, nothing is written. */
import { TandemError } from '../../common/errors.js';
import { inspect, type PlanReport } from '../../partition/index.js';
import type { ClusterSettings } from '../config/index.js';
import { type ModelDirectory, pictureSize, readModelDirectory, sequenceOf } from '../pipeline/index.js';
import type { Dims } from '../shards/dims.js';
import type { DenoiserModel } from '../shards/model.js';
import { type HostedNetwork, hostNetworks, type Sources } from './host-networks.js';
import { type Needs, planNeeds } from './needs.js';

/** What a rank holds of a network; the JSON keys are a contract. */
export interface NetworkRank {
  readonly rank: number;
  readonly weight_bytes: number;
  readonly activation_peak_bytes: number;
}

/** Where a network would run; the JSON keys are a contract. */
export interface NetworkReport {
  readonly name: string;
  /** `rank`: whole, on the one rank of `ranks`. */
  readonly placement: 'coordinator' | 'rank' | 'shard';
  readonly reason: string;
  /** Of the whole network on one device; null where it cannot be planned, and runs in the coordinator. */
  readonly weight_bytes: number | null;
  readonly activation_peak_bytes: number | null;
  /** Empty where the coordinator runs it. */
  readonly ranks: readonly NetworkRank[];
}

export interface DryRun {
  readonly model: DenoiserModel;
  readonly dims: Dims;
  readonly settings: ClusterSettings;
  /** The denoiser's. */
  readonly report: Pick<PlanReport, 'ranks'>;
  readonly onNotice: (message: string) => void;
}

const needsIn = ({ ranks }: DryRun['report']): Needs =>
  ranks.map(({ weight_bytes, activation_peak_bytes }) => ({
    weights: weight_bytes,
    activations: activation_peak_bytes,
  }));

/** The denoiser has been planned already. */
const freshSources = ({ model, report }: DryRun): Sources => ({
  declared: (path) => inspect(path),
  needs: async (request) => (request.model === model ? needsIn(report) : planNeeds(request)),
});

/** Undefined for what the partitioner cannot take: a session of the coordinator may still run it. */
const needsAlone = (network: HostedNetwork): Promise<Needs | undefined> =>
  planNeeds(network.alone).catch((error: unknown) => {
    if (error instanceof TandemError && network.run === undefined) return undefined;
    throw error;
  });

const describe = async (network: HostedNetwork): Promise<NetworkReport> => {
  const { name, host, reason, run } = network;
  const alone = await needsAlone(network);
  const needs = run === undefined ? [] : (network.needs ?? (await planNeeds(run.request)));
  return {
    name,
    placement: host.kind,
    reason,
    weight_bytes: alone?.[0]?.weights ?? null,
    activation_peak_bytes: alone?.[0]?.activations ?? null,
    ranks: needs.map(({ weights, activations }, member) => ({
      rank: run?.members[member] ?? member,
      weight_bytes: weights,
      activation_peak_bytes: activations,
    })),
  };
};

/** A directory may hold a denoiser alone, which can be planned all the same. */
const readWhole = async (directory: string, onNotice: DryRun['onNotice']): Promise<ModelDirectory | undefined> =>
  readModelDirectory(directory).catch((error: unknown) => {
    if (!(error instanceof TandemError)) throw error;
    onNotice(`Only the denoiser is planned: ${[error.message, ...error.problems].join(' ')}`);
    return undefined;
  });

/**
 * Places the networks of a model directory as `generate` and `launch` would.
 * @returns none for a single `.onnx` file, or a directory that is no whole pipeline
 * @throws TandemError as `hostNetworks` and `plan` do
 */
export const dryRunHosting = async (dry: DryRun): Promise<readonly NetworkReport[]> => {
  const { model, dims, settings, onNotice } = dry;
  const directory = model.directory === undefined ? undefined : await readWhole(model.directory, onNotice);
  if (directory === undefined) return [];
  const { inputs } = await inspect(model.path);
  const size = pictureSize(directory, inputs, dims);
  const target = { model, dims, sequence: sequenceOf(inputs, dims), ...size };
  const hosted = await hostNetworks(settings, target, directory, freshSources(dry));
  const reports: NetworkReport[] = [];
  for (const network of hosted) reports.push(await describe(network));
  return reports;
};
