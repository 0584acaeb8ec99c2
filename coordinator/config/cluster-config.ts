/** What a checked cluster config says: every default filled in and every path absolute. */
import type { Provider } from '../../common/onnxruntime.js';
import type { MeshShape, Split } from '../../partition/index.js';
import type { LinkRates, Rates } from '../../partition/plan/rates.js';
import type { Quantize, WireDtype } from '../../partition/write/manifest.js';
import type { LoaderChoice } from '../../shard-worker/loader.js';
import type { HostPool } from '../cluster/index.js';
import type { Transport } from '../cluster/transport.js';
import type { NetworkName, SchedulerName } from '../pipeline/index.js';

/** A device of the cluster, and how its worker uses it. */
export interface DeviceConfig {
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
  /** Relative to the other devices; as calibrated, else 1, where absent. */
  readonly speed?: number;
  /** bytes; unlimited where absent */
  readonly memoryLimit?: number;
  /** bytes of the largest tensor; as the provider's devices have it where absent */
  readonly bufferLimit?: number;
  /** Measured on this machine; see `calibration/`. */
  readonly rates?: Rates;
  /** What lies between it and the others, where its rates do not say. */
  readonly link?: LinkRates;
  /** Name of the further host that has it; absent for this one. */
  readonly host?: string;
}

/** The place of a further host in the cluster. */
export interface Seat {
  readonly name: string;
  /** Whether any host may have it that comes with this number, or with none. */
  readonly isNumbered: boolean;
}

/** How further hosts join. */
export interface HostsConfig {
  readonly seats: readonly Seat[];
  /** `tcp://ADDRESS:PORT` */
  readonly listen: string;
  /** Directory of the keys, absolute. */
  readonly keys: string;
  /** This host's IP address, as the others reach it; found out where absent. */
  readonly address?: string;
  /** Until all have joined, in ms. */
  readonly joinMs: number;
}

/** Where a network beside the denoiser is to run; `auto` asks the devices' memory limits. */
export type HostChoice = 'auto' | 'coordinator' | 'shard' | { readonly rank: number };

/** `auto` for those that are not named. */
export type Hosting = Readonly<Partial<Record<NetworkName, HostChoice>>>;

/** A checked cluster config: defaults filled in, paths absolute. */
export interface ClusterConfig {
  /** The config file, absolute. */
  readonly file: string;
  /** Diffusers-layout directory or `.onnx` file, absolute. */
  readonly model: string;
  /** Index is the rank. */
  readonly devices: readonly DeviceConfig[];
  readonly wire: {
    readonly dtype: WireDtype;
    readonly transport: Transport;
    /** What the plan takes for the links; measured where absent. */
    readonly link?: LinkRates;
  };
  readonly quantize: Quantize;
  /** What is divided among the devices; see `partition/plan/decide.ts`. */
  readonly split: Split;
  /** Whether `generate` and `launch` may use the devices in another way, where that is predicted to be faster. */
  readonly parallel: 'auto' | Split;
  /** What `auto` looks for: the time of one picture, or pictures per minute. */
  readonly aim: 'latency' | 'throughput';
  /** Several groups of devices; one where absent. The product of its numbers is the number of devices. */
  readonly mesh?: MeshShape;
  /** Where text encoders and VAE decoder run. */
  readonly placement: Hosting;
  /** How weights come into memory; `auto` asks the file system. */
  readonly loader: LoaderChoice;
  /** Whether `launch` loads text encoder and VAE from the start on, or for the first picture. */
  readonly loadParts: 'ahead' | 'on-demand';
  /** Where prepared shard directories are kept, absolute. */
  readonly shards: string;
  /** The calibration file, absolute; it may be missing. */
  readonly calibration: string;
  /** ms */
  readonly timeouts: {
    readonly startMs: number;
    readonly loadMs: number;
    readonly stepMs: number;
    readonly heartbeatMs: number;
  };
  /** Of the resident server; one-shot commands start their workers anew and give up when one is lost. */
  readonly workers: {
    /** ms; 0: workers end with their coordinator */
    readonly keepWarmMs: number;
    readonly maxRestarts: number;
  };
  /** What is absent is the model's own. */
  readonly defaults: {
    readonly numInferenceSteps?: number;
    readonly guidanceScale?: number;
    readonly width?: number;
    readonly height?: number;
    readonly scheduler?: SchedulerName;
  };
  /** Prepared ahead by the server. */
  readonly sizes: readonly PictureSize[];
  /** Sizes beside the default one that the server keeps loaded. */
  readonly residentSizes: number;
  readonly server: ServerConfig;
  /** Absent where this host is alone. */
  readonly hosts?: HostsConfig;
  /** The further hosts, once they have joined. */
  readonly pool?: HostPool;
}

/** pixels */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** A cluster by itself: what runs a model, be it named by a config or by a command's options. */
export type ClusterSettings = Omit<
  ClusterConfig,
  | 'file'
  | 'model'
  | 'parallel'
  | 'aim'
  | 'loadParts'
  | 'workers'
  | 'defaults'
  | 'sizes'
  | 'residentSizes'
  | 'server'
  | 'hosts'
> &
  Partial<Pick<ClusterConfig, 'defaults'>>;

/** How `tandem launch` listens. */
export interface ServerConfig {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly apiKey?: string;
  /** Environment variable with the key; it is read when the server starts. */
  readonly apiKeyVariable?: string;
  /** Pictures that are made at a time, their steps in turn. */
  readonly maxRunning: number;
  /** Requests that may wait for their turn. */
  readonly maxQueue: number;
  /** Directory of the pictures that are asked for by address, absolute. */
  readonly images: string;
  /** Proxies whose `X-Forwarded-*` headers are believed. */
  readonly trustProxy: readonly string[];
  /** ms */
  readonly drainMs: number;
}
