/** Many pictures from one start of a config's workers, with the package's own functions. Build first: `npm run build`. */
import { readClusterConfig } from '../../dist/coordinator/index.js';
import { planPicture } from '../../dist/coordinator/generate/picture.js';
import { createPipeline } from '../../dist/coordinator/pipeline/index.js';
import { prepareShards } from '../../dist/coordinator/shards/prepare.js';
import { withCluster } from '../../dist/coordinator/start-cluster.js';

/**
 * Starts the workers for the time of `work`.
 * @param {string} configFile
 * @param {(paint: (request: { prompt: string, seed: number, negativePrompt?: string, guidanceScale?: number,
 *   numInferenceSteps?: number, initialLatents?: Float32Array }) => Promise<import('../../dist/coordinator/pipeline/index.js').GeneratedImage>) => Promise<T>} work
 *   `guidanceScale` must stay above 1, for the workers are opened for two prompts at once
 * @returns {Promise<T>}
 * @template T
 */
export const withPainter = async (configFile, work) => {
  const config = await readClusterConfig(configFile);
  const picture = await planPicture(config);
  const { devices, wire, timeouts } = config;
  const shards = await prepareShards({
    model: picture.model,
    devices,
    dims: picture.dims,
    wireDtype: wire.dtype,
    root: config.shards,
  });
  return withCluster(shards, { devices, wire, timeouts }, async ({ cluster }) => {
    const pipeline = await createPipeline({ directory: picture.directory, denoiser: cluster });
    const { guidanceScale, numInferenceSteps } = config.defaults;
    try {
      return await work((request) => pipeline.generateImage({ guidanceScale, numInferenceSteps, ...request }));
    } finally {
      await pipeline.close();
    }
  });
};

/** Peak signal-to-noise ratio of two 8-bit pictures, in dB; infinite where they are equal. */
export const psnr = (left, right) => {
  const squares = left.reduce((sum, value, index) => sum + (value - right[index]) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / left.length));
};
