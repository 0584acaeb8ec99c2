/** The calibration file: what was measured on this machine, for `plan`, `partition` and `bench` to reckon with. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { z } from 'zod';
import { TandemError } from '../../common/errors.js';
import { ONNXRUNTIME_VERSION, PROVIDERS, type Provider } from '../../common/onnxruntime.js';
import { type HostLink, LINKS, OPERATOR_CLASSES } from '../../partition/plan/rates.js';

/** 2: exchanges by what lies between the ranks. */
const FORMAT_VERSION = 2;

const amount = z.number().nonnegative();
const kind = z.enum(OPERATOR_CLASSES);
const work = { key: z.string(), flops: amount, readBytes: amount, writtenBytes: amount };
const point = z.strictObject({ ...work, kind, ms: z.number().positive() });
const stretch = z.strictObject({
  works: z.array(z.strictObject({ ...work, kind: kind.exactOptional() })),
  ms: z.number().positive(),
});

const device = z.strictObject({
  provider: z.enum(PROVIDERS as [Provider, ...Provider[]]),
  device_id: z.number().int().nonnegative(),
  threads: z.number().int().positive(),
  /** The model whose operators were measured, for people. */
  model: z.string(),
  measured: z.strictObject({ points: z.array(point).min(1), stretches: z.array(stretch), callMs: amount }),
});

const exchange = z.strictObject({ latencyMs: amount, wireBytesPerMs: z.number().positive(), stepMs: amount });

const calibration = z.strictObject({
  format_version: z.literal(FORMAT_VERSION),
  /** ISO 8601 */
  made: z.string(),
  machine: z.strictObject({ processor: z.string(), cores: z.number(), onnxruntime_version: z.string() }),
  devices: z.array(device).min(1),
  exchanges: z.partialRecord(z.enum(Object.keys(LINKS) as [HostLink, ...HostLink[]]), exchange),
});

export type Calibration = z.infer<typeof calibration>;
export type CalibratedDevice = Calibration['devices'][number];

const ADVICE = 'Measure again with "tandem plan MODEL --calibrate", or delete the file to plan with typical rates.';

/** What measurements are tied to. */
export const thisMachine = (): Calibration['machine'] => ({
  processor: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  onnxruntime_version: ONNXRUNTIME_VERSION,
});

const describe = ({ processor, cores, onnxruntime_version }: Calibration['machine']): string =>
  `${cores} cores of "${processor}" with ONNX Runtime ${onnxruntime_version}`;

const checkMachine = (file: string, { machine }: Calibration): void => {
  const here = describe(thisMachine());
  const there = describe(machine);
  if (here === there) return;
  throw new TandemError(
    'CALIBRATION_STALE',
    `The calibration in ${file} is of ${there}; this machine has ${here}. ${ADVICE}`,
  );
};

const parse = (file: string, text: string): Calibration => {
  const broken = (reason: string, cause?: unknown): TandemError =>
    new TandemError('CALIBRATION_BROKEN', `Expected a calibration in ${file}; ${reason}. ${ADVICE}`, { cause });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw broken('it is not JSON', cause);
  }
  const parsed = calibration.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw broken(`${issue?.path.join('.') || 'the file'}: ${issue?.message}`);
};

/**
 * @returns undefined where there is no such file
 * @throws TandemError `CALIBRATION_BROKEN`, or `CALIBRATION_STALE` where it was made on another machine or ONNX Runtime
 */
export const readCalibration = async (file: string): Promise<Calibration | undefined> => {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw new TandemError('CALIBRATION_BROKEN', `Expected to read the calibration in ${file}: ${cause.message}.`, {
      cause,
    });
  });
  if (text === undefined) return undefined;
  const found = parse(file, text);
  checkMachine(file, found);
  return found;
};

/**
 * Writes the file, whole or not at all.
 * @throws TandemError `CALIBRATION_UNWRITABLE`
 */
export const writeCalibration = async (
  file: string,
  content: Pick<Calibration, 'devices' | 'exchanges'>,
): Promise<Calibration> => {
  const whole = {
    format_version: FORMAT_VERSION,
    made: new Date().toISOString(),
    machine: thisMachine(),
    ...content,
  } as const;
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(`${file}.new`, `${JSON.stringify(whole, null, 1)}\n`);
    await rename(`${file}.new`, file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TandemError('CALIBRATION_UNWRITABLE', `Expected to write the calibration to ${file}: ${reason}.`, {
      cause,
    });
  }
  return whole;
};
