/**
 * How optimised segments are opened: ONNX Runtime is told to take the graph as it is. The weights are then mapped from their
 * file, not copied, and processes that open the same file share its pages.
 */
import { type LocalSession, openSession, type SessionOptions } from '../../../common/onnxruntime.js';

/**
 * Opens a segment that `saveOptimised` made. Without prepacking, since packed weights are private copies, and a step of a
 * full-size UNet took as long with them as without.
 * @throws whatever ONNX Runtime says of the graph, as an `Error`
 */
export const openOptimised = (path: string, device: Omit<SessionOptions, 'optimization'>): Promise<LocalSession> =>
  openSession(path, { ...device, optimization: 'disabled', entries: { 'session.disable_prepacking': '1' } });
