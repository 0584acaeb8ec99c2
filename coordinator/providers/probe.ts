/** The inside of the process that tries a provider: opens a graph of one node with it, says how that went, and ends. */
import { openSession } from '../../common/onnxruntime.js';
import type { ProbeAnswer, Probed } from './index.js';

/** y = Relu(x) of one float32, as the bytes of an ONNX model. */
const MODEL = Buffer.from(
  'CAg6NwoMCgF4EgF5IgRSZWx1EgVwcm9iZVoPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=',
  'base64',
);

const probe = async ({ provider, deviceId }: Probed): Promise<ProbeAnswer> => {
  try {
    const session = await openSession(MODEL, { provider, deviceId, optimization: 'disabled' });
    await session.dispose();
    return { problem: null };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
};

process.once('message', (device: Probed) => {
  void probe(device).then((answer) => process.send?.(answer, () => process.disconnect()));
});
