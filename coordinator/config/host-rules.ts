/** Rules about further hosts: nothing listens beyond this host without keys, and a host is named in one way. */
import type { ConfigProblem } from './problems.js';

const field = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;

const listed = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const namedDevices = (root: unknown): readonly unknown[] =>
  listed(field(root, 'devices')).filter((device) => field(device, 'host') !== undefined);

const hasFurtherHosts = (root: unknown): boolean => {
  const hosts = field(root, 'hosts');
  return Array.isArray(hosts) || (typeof hosts === 'number' && hosts > 1) || namedDevices(root).length > 0;
};

const LOOPBACK = /^tcp:\/\/(localhost|127(\.\d{1,3}){3}|\[::1\]):/;

const hostsHaveKeys = (root: unknown): readonly ConfigProblem[] => {
  const join = field(root, 'join');
  const listen = field(join, 'listen');
  if (field(join, 'keys') !== undefined) return [];
  const remedy = 'make them with "tandem keys", and name their directory';
  if (hasFurtherHosts(root)) {
    const message = `expected join.keys beside further hosts, as nothing may listen where strangers can reach it without keys; found none (${remedy})`;
    return [{ path: ['hosts'], message }];
  }
  if (typeof listen !== 'string' || LOOPBACK.test(listen)) return [];
  return [{ path: ['join', 'listen'], message: `expected join.keys beside it; found none (${remedy})` }];
};

const hostsAreNamedOnce = (root: unknown): readonly ConfigProblem[] => {
  const hosts = field(root, 'hosts');
  if (typeof hosts === 'number' && namedDevices(root).length > 0) {
    const message = `expected a list of hosts, or none, where devices name theirs; found ${hosts}`;
    return [{ path: ['hosts'], message }];
  }
  const names = listed(hosts).map((host) => field(host, 'name'));
  const again = names.findIndex((name, index) => name !== undefined && names.indexOf(name) < index);
  if (again < 0) return [];
  const message = `expected a name of its own; found "${String(names[again])}" again`;
  return [{ path: ['hosts', again, 'name'], message }];
};

const oneDeviceIsHere = (root: unknown): readonly ConfigProblem[] => {
  const devices = listed(field(root, 'devices'));
  if (devices.length === 0 || namedDevices(root).length < devices.length) return [];
  const message = 'expected a device of this host, which leads and makes pictures from what workers give; found none';
  return [{ path: ['devices'], message }];
};

const hostsCanReachEachOther = (root: unknown): readonly ConfigProblem[] => {
  const transport = field(field(root, 'wire'), 'transport');
  if (!hasFurtherHosts(root) || (transport !== 'ipc' && transport !== 'shared-memory')) return [];
  const message = `expected "auto" or "tcp" beside further hosts; found "${transport}", which ends at this one`;
  return [{ path: ['wire', 'transport'], message }];
};

export const checkHosts = (root: unknown): readonly ConfigProblem[] => [
  ...hostsHaveKeys(root),
  ...hostsAreNamedOnce(root),
  ...oneDeviceIsHere(root),
  ...hostsCanReachEachOther(root),
];
