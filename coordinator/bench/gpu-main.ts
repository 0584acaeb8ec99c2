/**
 * The GPU kit's command, `node dist/coordinator/bench/gpu-main.js`. The environment says what to measure: `GPU_PROVIDER` (webgpu, cuda,
 * ...), `GPU_SECOND` (number of the second worker's device), `GPU_STEPS`, `GPU_MODELS` (`shipped`, `sd15`, or both with a comma).
 */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PROVIDERS, type Provider } from '../../common/onnxruntime.js';
import { formatBytes } from '../config/bytes.js';
import { listDevices } from '../devices/index.js';
import { prepareShowcase, SHOWCASE_DIMS } from '../showcase/index.js';
import { type GpuRow, measureGpu } from './gpu.js';

const SHIPPED = fileURLToPath(new URL('../../../models/emoji-sd/unet/model.onnx', import.meta.url));
const SHIPPED_DIMS = { batch_size: 2, height: 32, width: 32, sequence_length: 16 };

const seconds = (ms: number): string => (ms === 0 ? '' : `${(ms / 1000).toFixed(3)} s`);
const size = (bytes: number): string => (bytes === 0 ? '' : formatBytes(bytes));

/** The rows as the console prints them. */
export const gpuTable = (rows: readonly GpuRow[]): readonly Record<string, string>[] =>
  rows.map(({ problem, ...row }) => ({
    ...{ model: row.model, run: row.run, load: seconds(row.load_ms), 'first step at': seconds(row.first_step_ms) },
    ...{ step: seconds(row.step_ms), exchange: seconds(row.exchange_ms), sent: size(row.sent_bytes) },
    ...{ 'host and device': size(row.copied_bytes), memory: size(row.memory_bytes), problem: problem ?? '' },
  }));

export interface GpuRunRequest {
  readonly root: string;
  readonly models: readonly string[];
  readonly provider: Provider;
  readonly secondDevice: number;
  readonly steps: number;
}

/** What the environment asks for. */
export const gpuRequest = ({
  GPU_PROVIDER = 'webgpu',
  GPU_SECOND = '0',
  GPU_STEPS = '10',
  GPU_MODELS = 'shipped,sd15',
}: NodeJS.ProcessEnv): Omit<GpuRunRequest, 'root'> => ({
  provider: PROVIDERS.find((name) => name === GPU_PROVIDER) ?? 'webgpu',
  secondDevice: Number(GPU_SECOND),
  steps: Number(GPU_STEPS),
  models: GPU_MODELS.split(','),
});

/** Measures the models that are asked for, the shipped one first. */
export const measureAll = async ({ root, models, ...how }: GpuRunRequest): Promise<readonly GpuRow[]> => {
  mkdirSync(root, { recursive: true });
  const rows: GpuRow[] = [];
  if (models.includes('shipped'))
    rows.push(...(await measureGpu({ ...how, root, name: 'shipped', model: SHIPPED, dims: SHIPPED_DIMS })));
  if (models.includes('sd15'))
    rows.push(
      ...(await measureGpu({ ...how, root, name: 'SD1.5', model: await prepareShowcase(root), dims: SHOWCASE_DIMS })),
    );
  return rows;
};

const isMain = process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url);
if (isMain) {
  const { cpu, cards, providers } = await listDevices();
  console.log(JSON.stringify({ cpu, cards, providers }, undefined, 2));
  console.table(gpuTable(await measureAll({ root: join(process.cwd(), 'gpu-kit-data'), ...gpuRequest(process.env) })));
}
