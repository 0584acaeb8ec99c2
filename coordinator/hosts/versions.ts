/** What must be the same on all hosts of a cluster. */
import { ONNXRUNTIME_VERSION } from '../../common/onnxruntime.js';
import { TOOL_VERSION } from '../../common/version.js';
import { PROTOCOL_VERSION } from '../../shard-worker/protocol.js';
import type { Join } from './messages.js';

export const ownVersions = (): Join['versions'] => ({
  tandem: TOOL_VERSION,
  workers: PROTOCOL_VERSION,
  onnxruntime: ONNXRUNTIME_VERSION,
  arch: process.arch,
});
