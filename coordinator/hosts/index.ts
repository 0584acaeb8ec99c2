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
import type { LinkRates } from '../../partition/plan/rates.js';
import type { ClusterConfig } from '../config/index.js';
import { withLink } from '../config/measured-rates.js';
import type { Hooks } from '../hooks.js';
import { addressAt } from './address.js';
import { JoinPort } from './join-port.js';
import { steadyLink } from './steady-links.js';

export { addressTowards } from './address.js';
export { Agent, type HostState } from './agent.js';
export { makeKeyFiles } from './key-files.js';

export interface Joined {
  /** A config with the hosts that have joined, and what was measured of them. */
  apply(config: ClusterConfig): ClusterConfig;
  close(): Promise<void>;
}

/** A host is missed before its workers are, which would be blamed one by one. */
const HOST_SHARE = 0.8;

const NONE: Joined = { apply: (config) => config, close: async () => undefined };

const linkText = ({ wireBytesPerMs, latencyMs }: LinkRates): string =>
  `${((wireBytesPerMs * 8) / 1e6).toPrecision(3)} Gbit/s, ${latencyMs.toFixed(2)} ms`;

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
    heartbeatMs: config.timeouts.heartbeatMs * HOST_SHARE,
    onNotice,
  });
  try {
    await port.whole(hosts.joinMs, hooks.signal);
    if (config.wire.link === undefined) await port.meter.measure(port.seated);
  } catch (error) {
    await port.close();
    throw error;
  }
  const { slowest: found } = port.meter;
  if (found !== undefined) onNotice(`The slowest link between hosts: ${linkText(found)}.`);
  const slowest =
    found &&
    steadyLink(
      [...port.seated.values()].map(({ join }) => join.name),
      found,
    );
  return { apply: (asked) => applied(asked, port, slowest), close: () => port.close() };
};

/** Links that the config tells are not those that were measured. */
const applied = (config: ClusterConfig, pool: JoinPort, slowest: LinkRates | undefined): ClusterConfig => ({
  ...(slowest === undefined || config.wire.link !== undefined ? config : withLink(config, slowest)),
  pool,
});
