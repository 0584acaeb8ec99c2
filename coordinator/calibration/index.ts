/**
 * Costs measured on this machine: `calibrate` makes the file, `withCalibration` gives its rates to devices that the planner is
 * to plan for.
 */

import { linkOf } from '../cluster/transport.js';
import {
  type CalibratedDevice,
  type Calibration,
  readCalibration,
  writeCalibration,
} from '../config/calibration-file.js';
import type { ClusterConfig, DeviceConfig } from '../config/index.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import type { Dims } from '../shards/dims.js';
import type { DenoiserModel } from '../shards/model.js';
import { measureExchange } from './exchange-rates.js';
import { measureOperators } from './operators.js';

export { readCalibration } from '../config/calibration-file.js';
export { withCalibration } from '../config/measured-rates.js';

export interface CalibrateRequest extends Hooks {
  readonly model: DenoiserModel;
  readonly dims: Dims;
  readonly cluster: Pick<ClusterConfig, 'devices' | 'wire' | 'timeouts' | 'calibration'>;
}

const isAlike = (a: DeviceConfig, b: DeviceConfig): boolean =>
  a.provider === b.provider && a.deviceId === b.deviceId && a.threads === b.threads;

/** One of each kind, with the number of its kind. */
const kindsOf = (devices: readonly DeviceConfig[]): readonly (readonly [device: DeviceConfig, alike: number])[] =>
  devices
    .filter((device, index) => devices.findIndex((other) => isAlike(other, device)) === index)
    .map((device) => [device, devices.filter((other) => isAlike(other, device)).length]);

const measureDevices = async (request: CalibrateRequest): Promise<readonly CalibratedDevice[]> => {
  const { model, dims, cluster } = request;
  const measured: CalibratedDevice[] = [];
  for (const [{ provider, deviceId, threads }, alike] of kindsOf(cluster.devices)) {
    checkCancelled(request.signal);
    const device = { provider, deviceId, threads };
    const found = await measureOperators({ model: model.path, dims, device }, alike, request);
    measured.push({ provider, device_id: deviceId, threads, model: model.name, measured: toFile(found) });
  }
  return measured;
};

const toFile = ({ points, stretches, callMs }: Awaited<ReturnType<typeof measureOperators>>) => ({
  points: [...points],
  stretches: stretches.map(({ works, ms }) => ({ works: [...works], ms })),
  callMs,
});

/** Two devices to exchange between: the first two, or one with itself. */
const pairOf = (devices: readonly DeviceConfig[]): readonly DeviceConfig[] => {
  const [first, second = first] = devices;
  return first && second ? [first, second] : [];
};

/**
 * Measures each kind of device on the model's operators, and exchanges between two of them over the cluster's transport, and writes the calibration file.
 * Devices that the file had before stay in it.
 * @throws TandemError `CALIBRATE_FAILED`, `CALIBRATION_UNWRITABLE`, and of `launchCluster`; no process is left behind
 */
export const calibrate = async (request: CalibrateRequest): Promise<Calibration> => {
  const { cluster } = request;
  const devices = await measureDevices(request);
  const exchange = await measureExchange({ ...cluster, devices: pairOf(cluster.devices) }, request);
  const link = linkOf(cluster.wire.transport);
  const before = await readCalibration(cluster.calibration).catch(() => undefined);
  const kept = (before?.devices ?? []).filter(
    (old) =>
      !devices.some(
        (one) => one.provider === old.provider && one.device_id === old.device_id && one.threads === old.threads,
      ),
  );
  return writeCalibration(cluster.calibration, {
    devices: [...devices, ...kept],
    exchanges: { ...before?.exchanges, [link]: exchange },
  });
};
