/**
 * What a shard directory contains: `manifest.json` beside one folder per rank, each with the rank's weights file and
 * its segment graphs. This is the one agreement between `partition/`, which writes it, and `shard-worker/`, which runs it.
 *
 * A rank's program is `run segment 0, exchange, run segment 1, exchange, ...`. A worker knows nothing of collectives:
 * after a segment it sends some of its tensors to peers and receives some from them; every sum, slice, concatenation and
 * cast that makes this an all-reduce, a reduce-scatter or an all-gather is inside the segments' graphs.
 */
import type { Provider } from '../../common/onnxruntime.js';
import type { OpenSpec, TensorSpec } from '../../common/tensor.js';

/** Element types of activations between ranks; `int8` has a scale for each row. */
export const WIRE_DTYPES = ['fp32', 'fp16', 'int8'] as const;
export type WireDtype = (typeof WIRE_DTYPES)[number];

export const MANIFEST_FILE = 'manifest.json';
export const FORMAT_VERSION = 1;

/** A file of the shard directory. */
export interface FileEntry {
  /** Relative to the shard directory, with forward slashes. */
  readonly path: string;
  readonly bytes: number;
  /** Hex digest. */
  readonly sha256: string;
  /** Hex; see `checksum.ts`. Workers prove the file by it rather than by the digest, which takes five times as long. */
  readonly gmac?: string;
}

/** One tensor that leaves a rank after a segment; `tensor` is one of that segment's outputs. */
export interface Send {
  readonly tensor: string;
  readonly to: readonly number[];
}

/** One tensor that arrives before the next segment; `name` is how later segments call it, `tensor` how its sender does. */
export interface Receive extends TensorSpec {
  readonly from: number;
  readonly tensor: string;
}

/** A stretch of a rank's graph without communication. */
export interface SegmentEntry {
  /** Relative to the shard directory; one of `Manifest.files`. */
  readonly file: string;
  /** Names fed to the session: model inputs, earlier segments' outputs, or received tensors. */
  readonly inputs: readonly string[];
  /**
   * Fetched from the session; those that are not sent stay with the rank for later segments. A size that depends on data is null,
   * and so is the shape of a tensor whose number of axes does; such a tensor is whole on every rank, and never sent.
   */
  readonly outputs: readonly OpenSpec[];
  readonly sends: readonly Send[];
  readonly receives: readonly Receive[];
  /** Names that nothing later reads: they may be freed once this segment has run and its sends are done. */
  readonly release: readonly string[];
}

/** A set of fixed sizes, with every rank's program for it. */
export interface Profile {
  /** `batch=2,height=64,width=64`, or `static` where the model has no symbolic dims. */
  readonly name: string;
  /** Symbolic dims by name, as they were fixed. */
  readonly dims: Readonly<Record<string, number>>;
  /** The model's own inputs and outputs, whole; every rank is fed all inputs and ends with all outputs. */
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Bytes that the slowest rank sends per step. */
  readonly wire_bytes_per_step: number;
  /** Index is the rank. */
  readonly ranks: readonly RankProgram[];
}

/** What a rank runs. */
export interface RankProgram {
  readonly segments: readonly SegmentEntry[];
  /**
   * Tensors that ranks have joined or added up, so that this one has all of each, with the model's own name for it: by these a
   * split is compared with the whole model. Absent where there are none.
   */
  readonly whole?: Readonly<Record<string, string>>;
}

/** What a rank's segments were optimised for. Elsewhere they fail or, where only the layout differs, compute nonsense. */
export interface OptimisedFor {
  readonly provider: Provider;
  readonly onnxruntime_version: string;
  /** Digest of how ONNX Runtime lays out weights on that machine's processor. */
  readonly layout: string;
}

export interface RankEntry {
  readonly rank: number;
  /** Folder of the rank, relative to the shard directory. */
  readonly folder: string;
  /** The rank's weights file, relative to the shard directory. */
  readonly weights: string;
  /** A second one, which shards of another size have as well: the same file by two names. Absent where nothing is shared. */
  readonly shared?: string;
  readonly weight_bytes: number;
  /** Absent where the segments are as the planner made them: then every session optimises its own when it is opened. */
  readonly prepared?: OptimisedFor;
}

/** The files that a rank's weights are in. */
export const weightsFiles = ({ weights, shared }: RankEntry): readonly string[] =>
  shared === undefined ? [weights] : [weights, shared];

/** `int8`: the weights of linear layers and convolutions. */
export type Quantize = 'none' | 'int8';
export const QUANTIZE = ['none', 'int8'] as const satisfies readonly Quantize[];

export interface Manifest {
  readonly format_version: number;
  readonly tool_version: string;
  readonly model: {
    /** File name of the model, for messages. */
    readonly name: string;
    /** Digest of the graph and of its weights; two models with the same digest are the same model. */
    readonly sha256: string;
  };
  readonly world_size: number;
  readonly wire_dtype: WireDtype;
  /** Absent where weights are as the model has them. */
  readonly quantize?: 'int8';
  readonly ranks: readonly RankEntry[];
  readonly profiles: readonly Profile[];
  readonly files: readonly FileEntry[];
}
