/**
 * Proves a segment on its device before anything is computed with it: the same inputs there and on the CPU. A driver or a kernel
 * that is wrong at some size gives numbers like any other, and nothing after this would tell. What agreed is remembered beside
 * the segment, for this device, driver and version of ONNX Runtime.
 */
import { mkdir, readdir, readFile, realpath, stat, writeFile } from 'node:fs/promises';
import { hostname, release } from 'node:os';
import { dirname } from 'node:path';
import { compareOutputs } from '../common/compare.js';
import { fromNumbers } from '../common/elements.js';
import { TandemError } from '../common/errors.js';
import { type LocalSession, ONNXRUNTIME_VERSION, openSession, type Provider } from '../common/onnxruntime.js';
import { type DType, elementCount, type HostTensor, type TensorSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';

type Tensors = Readonly<Record<string, HostTensor>>;

/** Largest difference, of the largest value, that rounding in another order makes. Of inputs and outputs the coarsest type counts. */
const TOLERANCES: Readonly<Partial<Record<DType, number>>> = { float16: 2e-2, bfloat16: 1e-1 };
const TOLERANCE = 1e-3;

export const toleranceOf = (dtypes: readonly DType[]): number =>
  Math.max(TOLERANCE, ...dtypes.map((dtype) => TOLERANCES[dtype] ?? 0));

const isWhole = (dtype: DType): boolean => !/float/.test(dtype);

/** A low-discrepancy sequence in [0, 1): even, the same everywhere, and without a generator. */
const even = (index: number): number => (index * 0.6180339887498949 + 0.5) % 1;

/** Numbers around zero, or, where a segment takes roots or logarithms of them, above it; whole numbers are indices that exist. */
const inputsFor = (specs: readonly TensorSpec[], above: number): Tensors =>
  Object.fromEntries(
    specs.map((spec) => {
      const value = isWhole(spec.dtype) ? () => 0 : (index: number) => 2 * even(index) - 1 + above;
      return [
        spec.name,
        fromNumbers(
          spec,
          Array.from({ length: elementCount(spec.shape) }, (_, index) => value(index)),
        ),
      ];
    }),
  );

/** A segment, and where it is to run. */
export interface DeviceSegment {
  readonly path: string;
  readonly entry: SegmentEntry;
  readonly provider: Provider;
  readonly deviceId: number;
}

const specsOf = ({ inputs }: LocalSession): readonly TensorSpec[] =>
  inputs.map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: shape.map((size) => (typeof size === 'number' ? size : 1)),
  }));

/** @throws TandemError `REFERENCE_NOT_FINITE` */
const errorOf = async (session: LocalSession, reference: LocalSession, inputs: Tensors): Promise<number> =>
  compareOutputs(await session.run(inputs), await reference.run(inputs)).max_rel_error;

/** Inputs for which the CPU gives numbers, and how far the device is from them. */
const measure = async (session: LocalSession, reference: LocalSession) => {
  const specs = specsOf(session);
  for (const inputs of [inputsFor(specs, 0), inputsFor(specs, 1.5)]) {
    try {
      return { inputs, error: await errorOf(session, reference, inputs) };
    } catch (error) {
      if (!(error instanceof TandemError) || error.code !== 'REFERENCE_NOT_FINITE') throw error;
    }
  }
  return undefined;
};

/** @throws TandemError `DEVICE_WRONG` */
const refuse = async (segment: DeviceSegment, inputs: Tensors, error: number, tolerance: number): Promise<never> => {
  const { path, entry, provider, deviceId } = segment;
  // Loads the protobuf library, which a worker does without otherwise.
  const { findFirstWrong } = await import('../partition/proof/first-wrong.js');
  const found = await findFirstWrong(path, inputs, { provider, deviceId }, tolerance).catch(() => undefined);
  const where = found
    ? `the first is node "${found.node}", ${found.operator} of ${found.inputs.join(', ')} to ${found.output}, which is ${found.error.toPrecision(2)} of its largest value off`
    : 'no operator of it is wrong by itself, so they are wrong together, as the provider joins them';
  throw new TandemError(
    'DEVICE_WRONG',
    `Provider "${provider}" computes segment "${entry.file}" wrongly on device ${deviceId}: expected what the CPU computes within ${tolerance}, found ${error.toPrecision(2)} of the largest value between them; ${where}. Use another driver or provider for this rank, or another number of devices, and report this.`,
  );
};

const proofOf = ({ path, provider, deviceId }: DeviceSegment): string => `${path}.${provider}-${deviceId}.proved`;

/** Names the graphics drivers that the system has loaded; empty where it does not tell. */
const drivers = async (): Promise<readonly string[]> => {
  const cards = await readdir('/sys/class/drm').catch(() => []);
  const links = await Promise.all(
    cards.map((card) => realpath(`/sys/class/drm/${card}/device/driver`).catch(() => undefined)),
  );
  const nvidia = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => '');
  const { VK_DRIVER_FILES = '', VK_ICD_FILENAMES = '' } = process.env;
  return [...new Set(links.flatMap((link) => link ?? []))].concat(nvidia, VK_DRIVER_FILES, VK_ICD_FILENAMES);
};

/** Changes with the segment, the device, its driver and ONNX Runtime. */
const identify = async (segment: DeviceSegment): Promise<string> => {
  const { ino, size, mtimeNs } = await stat(segment.path, { bigint: true });
  return [ONNXRUNTIME_VERSION, hostname(), release(), ino, size, mtimeNs, ...(await drivers())].join('\n');
};

const isRemembered = async (segment: DeviceSegment, identity: string): Promise<boolean> =>
  (await readFile(proofOf(segment), 'utf8').catch(() => undefined)) === identity;

/** Where nothing can be written, every start proves the segment. */
const remember = async (segment: DeviceSegment, identity: string): Promise<void> => {
  await mkdir(dirname(proofOf(segment)), { recursive: true })
    .then(() => writeFile(proofOf(segment), identity))
    .catch(() => undefined);
};

/**
 * Makes sure that a device computes a segment as the CPU does. Nothing to prove on the CPU itself.
 * @throws TandemError `DEVICE_WRONG` with the operator, its shapes and the error
 */
export const proveOnDevice = async (segment: DeviceSegment): Promise<void> => {
  if (segment.provider === 'cpu') return;
  const identity = await identify(segment);
  if (await isRemembered(segment, identity)) return;
  const { path, provider, deviceId } = segment;
  // Not the session of the steps to come, whose outputs may stay on the device.
  const session = await openSession(path, { provider, deviceId, optimization: 'all' });
  const reference = await openSession(path, { provider: 'cpu', optimization: 'basic' });
  try {
    const measured = await measure(session, reference);
    const tolerance = toleranceOf([...session.inputs, ...session.outputs].map(({ dtype }) => dtype));
    if (measured && measured.error > tolerance) await refuse(segment, measured.inputs, measured.error, tolerance);
    if (measured) await remember(segment, identity);
  } finally {
    await session.dispose();
    await reference.dispose();
  }
};
