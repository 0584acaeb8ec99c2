/** The running workers as one denoiser. */
export type { Cluster, RankStep, StepAllOptions, StepAllResult, WorkerDevice, WorkerInfo } from './cluster.js';
export { DEFAULT_TIMEOUTS, type LaunchOptions, launchCluster } from './launch.js';
export type { Timeouts } from './watch.js';
