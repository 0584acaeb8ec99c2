/**
 * What this machine can run a model on: each provider is tried with one small product, in a process of its own, and the system is
 * asked for its graphics cards. ONNX Runtime itself tells neither adapters nor memory.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism, cpus, totalmem } from 'node:os';
import type { Answer } from '../../common/answer.js';
import { TandemError } from '../../common/errors.js';
import { checkProvider, PROVIDERS, type Provider, providerUnavailable } from '../../common/onnxruntime.js';
import type { DeviceCheck } from '../../partition/calibrate/index.js';
import type { WireDtype } from '../../partition/write/manifest.js';
import type { Hooks } from '../hooks.js';
import type { CheckAnswer } from './protocol.js';

/** A driver that has not answered by then will not; ms. */
const LONGEST_CHECK_MS = 60_000;

export interface ProviderReport {
  readonly provider: Provider;
  readonly works: boolean;
  readonly float16: boolean;
  /** Why it does not work, or why it does not do half precision; null where it does both. */
  readonly problem: string | null;
}

/** A graphics card as the system lists it; null where the system does not tell. */
export interface CardReport {
  readonly vendor: string;
  readonly model: string;
  readonly driver: string | null;
  readonly memory_bytes: number | null;
}

export interface DevicesReport {
  readonly cpu: { readonly model: string; readonly cores: number; readonly memory_bytes: number };
  readonly cards: readonly CardReport[];
  readonly providers: readonly ProviderReport[];
}

const failure = (error: string): CheckAnswer => ({
  float32: { works: false, error },
  float16: { works: false, error },
});

const answerOf = (child: ChildProcess): Promise<CheckAnswer> =>
  new Promise((resolve) => {
    const late = () => resolve(failure(`it did not answer within ${LONGEST_CHECK_MS / 1000} s`));
    const timer = setTimeout(late, LONGEST_CHECK_MS);
    child.once('message', (answer: Answer<CheckAnswer>) =>
      resolve(answer.kind === 'done' ? answer.value : failure(answer.problem.message)),
    );
    child.once('exit', (code, by) => resolve(failure(`the process that tried it ended (${by ?? `status ${code}`})`)));
    child.once('error', (error) => resolve(failure(error.message)));
    child.once('close', () => clearTimeout(timer));
  });

interface Device {
  readonly provider: Provider;
  readonly deviceId: number;
}

/**
 * Tries a device in a process of its own, of which nothing is left behind.
 * @returns how it does half precision
 * @throws TandemError `PROVIDER_UNAVAILABLE` or `PROVIDER_DEVICE` where it cannot run at all
 */
const tryDevice = async ({ provider, deviceId }: Device): Promise<DeviceCheck> => {
  checkProvider(provider, deviceId);
  const child = fork(new URL('./child.js', import.meta.url), {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    execArgv: [],
  });
  try {
    child.send({ provider, deviceId });
    const { float32, float16 } = await answerOf(child);
    if (!float32.works) throw providerUnavailable(provider, float32.error ?? 'it does not answer');
    return float16;
  } finally {
    child.kill('SIGKILL');
  }
};

const reportOn = async (provider: Provider): Promise<ProviderReport> => {
  try {
    const { works: float16, error } = await tryDevice({ provider, deviceId: 0 });
    return { provider, works: true, float16, problem: error ?? null };
  } catch (error) {
    if (error instanceof TandemError) return { provider, works: false, float16: false, problem: error.message };
    throw error;
  }
};

/** The CPU is always there, and devices that are the same are asked once. */
const distinct = (devices: readonly Device[]): readonly Device[] =>
  devices.filter(
    ({ provider, deviceId }, index) =>
      provider !== 'cpu' &&
      devices.findIndex((other) => other.provider === provider && other.deviceId === deviceId) === index,
  );

const noHalf = ({ provider, deviceId }: Device, found: string): TandemError =>
  new TandemError(
    'DEVICE_HALF',
    `Expected half precision of device ${deviceId} of provider "${provider}", since the wire is fp16; it has none here (${found.trim()}). Set wire.dtype to fp32, or leave --wire-dtype out.`,
  );

/**
 * Asks the devices before minutes of work for them.
 * @param wire what they are to send each other, which is cast on the device
 * @throws TandemError `PROVIDER_UNAVAILABLE` or `PROVIDER_DEVICE` for the first that cannot run, `DEVICE_HALF`
 */
export const checkDevices = async (devices: readonly Device[], wire: WireDtype = 'fp32'): Promise<void> => {
  for (const device of distinct(devices)) {
    const { works, error = 'it does not do it' } = await tryDevice(device);
    if (wire === 'fp16' && devices.length > 1 && !works) throw noHalf(device, error);
  }
};

const MIB = 2 ** 20;

const listCards = async (): Promise<readonly CardReport[]> => {
  const { graphics } = await import('systeminformation');
  const { controllers } = await graphics();
  return controllers.map(({ vendor, model, name, driverVersion, vram, memoryTotal }) => {
    const mebibytes = memoryTotal ?? vram;
    return {
      vendor,
      model: name ?? model,
      driver: driverVersion ?? null,
      memory_bytes: mebibytes ? mebibytes * MIB : null,
    };
  });
};

/** What there is, each provider tried. */
export const listDevices = async ({ onProgress, signal }: Hooks = {}): Promise<DevicesReport> => {
  const providers: ProviderReport[] = [];
  for (const provider of PROVIDERS) {
    signal?.throwIfAborted();
    onProgress?.('devices', providers.length, PROVIDERS.length);
    providers.push(await reportOn(provider));
  }
  onProgress?.('devices', PROVIDERS.length, PROVIDERS.length);
  const cpu = { model: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), memory_bytes: totalmem() };
  return { cpu, cards: await listCards(), providers };
};
