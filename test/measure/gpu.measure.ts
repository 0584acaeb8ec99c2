/**
 * A device by the GPU kit's own code: `npm run measure -- gpu`. On a machine with a card it measures the shipped model and Stable Diffusion
 * 1.5's denoiser; `GPU_MODELS=shipped GPU_STEPS=2` is what the driver in software is for.
 */
import { join } from 'node:path';
import { it } from 'vitest';
import { gpuRequest, gpuTable, measureAll } from '#tandem/coordinator/bench/gpu-main.js';
import { checkDevice } from '#tandem/partition/calibrate/index.js';
import { useSoftwareDriver } from '../devices/driver.js';
import { SCRATCH } from './scratch.js';

it('prints steps, exchanges, loads and memory on this device', async (context) => {
  useSoftwareDriver();
  const request = gpuRequest(process.env);
  const { works, error } = await checkDevice(request.provider, 0, 'float32');
  if (!works) context.skip(`Provider ${request.provider} does not run here: ${error}`);
  console.table(gpuTable(await measureAll({ root: join(SCRATCH, 'gpu'), ...request })));
});
