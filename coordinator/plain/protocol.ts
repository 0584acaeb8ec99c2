/**
 * The messages between the coordinator and the plain process: the whole model in one ONNX Runtime session, against
 * which `verify` and `bench` hold the workers. Both ends are ours and of one version, over Node's own channel.
 */
import type { Answer } from '../../common/answer.js';
import type { Provider, TensorMetadata } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import type { Memory } from '../../shard-worker/protocol.js';

export interface PlainOpen {
  readonly kind: 'open';
  readonly model: string;
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
}

export interface PlainStep {
  readonly kind: 'step';
  readonly inputs: Readonly<Record<string, HostTensor>>;
  readonly wantOutputs: boolean;
}

export type ToPlain = PlainOpen | PlainStep;

export interface PlainOpened {
  readonly kind: 'opened';
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
  /** Time that opening the session took, without the process's own start. */
  readonly openMs: number;
}

export interface PlainStepped {
  readonly kind: 'stepped';
  readonly outputs?: Readonly<Record<string, HostTensor>>;
  /** Time of the session's run alone. */
  readonly computeMs: number;
}

export type FromPlain = Answer<(PlainOpened | PlainStepped) & { readonly memory: Memory }>;
