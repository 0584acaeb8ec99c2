/**
 * Further hosts. The leader waits for them before it plans, as their processors and links are part of the plan:
 *
 *     const joined = await joinHosts(config, hooks);     // the config with what is known of its hosts now
 *     ... planned, launched and stepped as ever, by joined.config ...
 *     await joined.close();
 *
 * A further host runs an `Agent`, which `tandem worker` is.
 */
import { basename } from 'node:path';
import { ratesOf } from '../../partition/plan/rates.js';
import type { ClusterConfig, DeviceConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { addressAt } from './address.js';
import { JoinPort } from './join-port.js';
import type { LinkRates } from './probe.js';

export { addressTowards } from './address.js';
export { Agent, type HostState } from './agent.js';
export { makeKeyFiles } from './key-files.js';

export interface Joined {
  /** A config with the hosts that have joined, and what was measured of them. */
  apply(config: ClusterConfig): ClusterConfig;
  close(): Promise<void>;
}

/** Two figures of three that a plan would not tell apart: shards are named by what they were planned with. */
const rounded = (value: number): number => 2 ** (Math.round(Math.log2(value) * 2) / 2);

/** A device at the end of the slowest link of its group. */
const onLink = (device: DeviceConfig, link: LinkRates): DeviceConfig => ({
  ...device,
  rates: {
    ...ratesOf(device),
    latencyMs: rounded(Math.max(link.latencyMs, 0.05)),
    wireBytesPerMs: rounded(link.bytesPerMs),
  },
});

const NONE: Joined = { apply: (config) => config, close: async () => undefined };

const linkText = ({ bytesPerMs, latencyMs }: LinkRates): string =>
  `${((bytesPerMs * 8) / 1e6).toPrecision(3)} Gbit/s, ${latencyMs.toFixed(2)} ms`;

/**
 * Waits for a config's further hosts, and measures the links between all. The caller closes it.
 * @throws TandemError `KEYS_INVALID`, `HOSTS_MISSING`, `HOST_ADDRESS`, those of `ControlServer.listen`; the signal's reason
 */
export const joinHosts = async (config: ClusterConfig, hooks: Hooks): Promise<Joined> => {
  const { hosts } = config;
  if (hosts === undefined) return NONE;
  const onNotice = hooks.onNotice ?? (() => undefined);
  const port = await JoinPort.open({
    config: hosts,
    address: hosts.address ?? addressAt(hosts.listen),
    model: basename(config.model),
    heartbeatMs: config.timeouts.heartbeatMs,
    onNotice,
  });
  try {
    await port.whole(hosts.joinMs, hooks.signal);
    await port.meter.measure(port.seated);
  } catch (error) {
    await port.close();
    throw error;
  }
  const { slowest } = port.meter;
  if (slowest !== undefined) onNotice(`The slowest link between hosts: ${linkText(slowest)}.`);
  return { apply: (asked) => applied(asked, port, slowest), close: () => port.close() };
};

const applied = (config: ClusterConfig, port: JoinPort, slowest: LinkRates | undefined): ClusterConfig => ({
  ...config,
  pool: port,
  devices: config.devices.map((device) => (slowest === undefined ? device : onLink(device, slowest))),
});
