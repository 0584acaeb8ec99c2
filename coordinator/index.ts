/** What the package exports: each command of the command line as a typed function, and what they take and give. */

export { TandemError } from '../common/errors.js';
export { PROVIDERS, type Provider } from '../common/onnxruntime.js';
export type { DType, HostTensor, TensorSpec } from '../common/tensor.js';
export {
  type DeviceSpec,
  inspect,
  type Manifest,
  type PartitionOptions,
  type PlanReport,
  partition,
  plan,
  type Quantize,
  type Split,
  type SplitRequest,
} from '../partition/index.js';
export { type BenchReport, type BenchRequest, type BenchRun, type BenchRunReport, bench } from './bench/bench.js';
export { type CalibrateRequest, calibrate, withCalibration } from './calibration/index.js';
export { type Cluster, launchCluster } from './cluster/index.js';
export {
  type ClusterConfig,
  clusterJsonSchema,
  type DeviceConfig,
  parseClusterConfig,
  readClusterConfig,
} from './config/index.js';
export type { Denoiser } from './denoiser.js';
export { followPlan } from './generate/follow-plan.js';
export { type GenerateReport, type GenerateRequest, generate } from './generate/generate.js';
export { cancelled, type Hooks, terminated } from './hooks.js';
export { dryRunHosting, type NetworkReport } from './hosting/dry-run.js';
export { type LaunchConfigRequest, type Launched, launch } from './launch.js';
export { drawPlanPage } from './plan-page/page.js';
export { type Ready, type ServeRequest, type SwapOutcome, serve } from './server/index.js';
export { type DenoiserModel, findDenoiserModel } from './shards/model.js';
export { type VerifyReport, type VerifyRequest, verify } from './verify/verify.js';
