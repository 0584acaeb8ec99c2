/** Further hosts as a config has them, however it says so: devices by rank, and the places where hosts sit. */
import { dirname, resolve } from 'node:path';
import type { ClusterConfig, Seat } from './cluster-config.js';
import type { ClusterParsed } from './schema.js';

export type PlacedDevice = ClusterParsed['devices'][number];

/** All devices, by rank: this host's first, then those of each further host. */
export const allDevices = ({ devices, hosts }: Pick<ClusterParsed, 'devices' | 'hosts'>): readonly PlacedDevice[] => {
  if (typeof hosts === 'number')
    return Array.from({ length: hosts }, (_, index) =>
      devices.map((device) => (index === 0 ? device : { ...device, host: String(index) })),
    ).flat();
  const further = (hosts ?? []).flatMap(({ name, devices: own }) => own.map((device) => ({ ...device, host: name })));
  const all = [...devices, ...further];
  const names = [undefined, ...new Set(all.flatMap(({ host }) => host ?? []))];
  return names.flatMap((name) => all.filter(({ host }) => host === name));
};

const seatsOf = (parsed: ClusterParsed): readonly Seat[] =>
  [...new Set(allDevices(parsed).flatMap(({ host }) => host ?? []))].map((name) => ({
    name,
    isNumbered: typeof parsed.hosts === 'number',
  }));

/** How further hosts join; nothing where this one is alone. */
export const hostsOf = (parsed: ClusterParsed, file: string): Pick<ClusterConfig, 'hosts'> => {
  const seats = seatsOf(parsed);
  const { listen, keys, address } = parsed.join;
  if (seats.length === 0 || keys === undefined) return {};
  const joinMs = parsed.timeouts.join_s * 1000;
  const found = { seats, listen, keys: resolve(dirname(file), keys), joinMs };
  return { hosts: address === undefined ? found : { ...found, address } };
};
