/**
 * Whether the devices' providers can run on this machine, asked before minutes of work for them. The runtime's build may have a
 * provider whose libraries or device are missing, which shows only when a session is opened: that is tried on a graph of one node, in
 * a process of its own, so that no device's memory stays taken and no crash of a driver is ours.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { checkProvider, type Provider, providerUnavailable } from '../../common/onnxruntime.js';

export interface Probed {
  readonly provider: Provider;
  readonly deviceId: number;
}

/** What the process says of a device: nothing where it can run. */
export interface ProbeAnswer {
  readonly problem: string | null;
}

const LIMIT_MS = 60_000;

const tryOpening = (device: Probed): Promise<string | null> =>
  new Promise((done) => {
    const child = fork(fileURLToPath(new URL('./probe.js', import.meta.url)), { timeout: LIMIT_MS, silent: true });
    let answer: string | null | undefined;
    child.on('message', ({ problem }: ProbeAnswer) => {
      answer = problem;
    });
    child.once('error', (error) => done(error.message));
    child.once('close', (status, signal) =>
      done(answer === undefined ? `the process that tried it ended with ${signal ?? status}` : answer),
    );
    child.send(device);
  });

/** The CPU is always there, and devices that are the same are asked once. */
const distinct = (devices: readonly Probed[]): readonly Probed[] =>
  devices.filter(
    ({ provider, deviceId }, index) =>
      provider !== 'cpu' &&
      devices.findIndex((other) => other.provider === provider && other.deviceId === deviceId) === index,
  );

/** @throws TandemError `PROVIDER_UNAVAILABLE` or `PROVIDER_DEVICE` for the first device that cannot run */
export const checkProviders = async (devices: readonly Probed[]): Promise<void> => {
  for (const device of distinct(devices)) {
    checkProvider(device.provider, device.deviceId);
    const problem = await tryOpening(device);
    if (problem !== null) throw providerUnavailable(device.provider, problem);
  }
};
