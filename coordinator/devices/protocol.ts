/** What the checking process is asked, and what it answers. */
import type { Provider } from '../../common/onnxruntime.js';
import type { DeviceCheck } from '../../partition/calibrate/index.js';

export interface CheckRequest {
  readonly provider: Provider;
  readonly deviceId: number;
}

export interface CheckAnswer {
  readonly float32: DeviceCheck;
  readonly float16: DeviceCheck;
}
