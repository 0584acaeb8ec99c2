/** Gives devices the rates that were measured; apart from the measuring, which every start but the first does without. */
import { fitRates } from '../../partition/calibrate/fit.js';
import { RATES, type Rates, ratesOf } from '../../partition/plan/rates.js';
import { type CalibratedDevice, type Calibration, readCalibration } from './calibration-file.js';
import type { ClusterConfig, DeviceConfig, LinkRates } from './cluster-config.js';

const isSame = (found: CalibratedDevice, { provider, deviceId, threads }: DeviceConfig): boolean =>
  found.provider === provider && found.device_id === deviceId && found.threads === threads;

const ratesFrom = ({ provider, measured }: CalibratedDevice, { exchange }: Calibration): Rates => ({
  ...fitRates(measured, RATES[provider]),
  ...exchange,
});

/** A device with its measured rates, if one of its provider, number and threads was calibrated. */
const calibrated = (device: DeviceConfig, calibration: Calibration): DeviceConfig => {
  const found = calibration.devices.find((one) => isSame(one, device));
  return found ? { ...device, rates: ratesFrom(found, calibration) } : device;
};

/**
 * The same settings with what the calibration file says of their devices; as they are where there is no file.
 * @throws TandemError `CALIBRATION_BROKEN`, `CALIBRATION_STALE`
 */
export const withCalibration = async <T extends Pick<ClusterConfig, 'devices' | 'calibration'>>(
  settings: T,
): Promise<T> => {
  const calibration = await readCalibration(settings.calibration);
  if (!calibration) return settings;
  return { ...settings, devices: settings.devices.map((device) => calibrated(device, calibration)) };
};

/** The same settings with all devices on such links. */
export const withLink = <T extends Pick<ClusterConfig, 'devices'>>(settings: T, link: LinkRates): T => ({
  ...settings,
  devices: settings.devices.map((device) => ({
    ...device,
    rates: { ...ratesOf(device), latencyMs: link.latencyMs, wireBytesPerMs: link.bytesPerMs },
  })),
});
