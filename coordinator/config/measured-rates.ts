/** Gives devices the rates that were measured; apart from the measuring, which every start but the first does without. */
import { fitRates } from '../../partition/calibrate/fit.js';
import { type HostLink, LINKS, type LinkRates, RATES, type Rates } from '../../partition/plan/rates.js';
import { linkOf } from '../cluster/transport.js';
import { type CalibratedDevice, type Calibration, readCalibration } from './calibration-file.js';
import type { ClusterConfig, DeviceConfig } from './cluster-config.js';

const isSame = (found: CalibratedDevice, { provider, deviceId, threads }: DeviceConfig): boolean =>
  found.provider === provider && found.device_id === deviceId && found.threads === threads;

const ratesFrom = ({ provider, measured }: CalibratedDevice, link: HostLink, { exchanges }: Calibration): Rates => ({
  ...fitRates(measured, RATES[provider]),
  ...(exchanges[link] ?? LINKS[link]),
});

/** A device over sockets, of which nothing was measured. */
const linked = (device: DeviceConfig, link: HostLink): DeviceConfig =>
  link === 'shared-memory' ? device : { ...device, link: LINKS[link] };

/** A device with its measured rates, if one of its provider, number and threads was calibrated. */
const rated = (device: DeviceConfig, link: HostLink, calibration: Calibration | undefined): DeviceConfig => {
  const found = calibration?.devices.find((one) => isSame(one, device));
  return found && calibration ? { ...device, rates: ratesFrom(found, link, calibration) } : linked(device, link);
};

/**
 * The same settings with what the calibration file says of their devices, and of what lies between them; what it does not say is
 * typical of the transport.
 * @throws TandemError `CALIBRATION_BROKEN`, `CALIBRATION_STALE`
 */
export const withCalibration = async <T extends Pick<ClusterConfig, 'devices' | 'calibration' | 'wire'>>(
  settings: T,
): Promise<T> => {
  const calibration = await readCalibration(settings.calibration);
  const link = linkOf(settings.wire.transport);
  return { ...settings, devices: settings.devices.map((device) => rated(device, link, calibration)) };
};

/** The same settings with all devices on such links. */
export const withLink = <T extends Pick<ClusterConfig, 'devices'>>(settings: T, link: LinkRates): T => ({
  ...settings,
  devices: settings.devices.map((device) => ({ ...device, link })),
});
