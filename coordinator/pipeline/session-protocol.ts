/** What the coordinator's main thread asks of its session thread, and what it gets back. */
import type { Provider, TensorMetadata } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';

export type SessionTask =
  | {
      readonly kind: 'open';
      readonly model: string;
      readonly provider: Provider;
      readonly deviceId: number;
      readonly threads?: number;
    }
  | {
      readonly kind: 'run';
      readonly session: number;
      readonly feeds: Readonly<Record<string, HostTensor>>;
      /** Names of the outputs wanted; all where absent. */
      readonly fetches?: readonly string[];
    }
  | { readonly kind: 'dispose'; readonly session: number };

export type SessionResult =
  | {
      readonly kind: 'opened';
      readonly session: number;
      readonly inputs: readonly TensorMetadata[];
      readonly outputs: readonly TensorMetadata[];
    }
  | { readonly kind: 'ran'; readonly outputs: Readonly<Record<string, HostTensor>> }
  | { readonly kind: 'disposed' };
