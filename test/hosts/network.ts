/**
 * Hosts on one machine: network namespaces on a bridge, each with an address, a rate and a view of the disk of its own. Made and
 * removed by the test; needs root on Linux.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

const run = (command: string): string =>
  execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** Why there can be no such hosts here; undefined where there can. */
export const whyNoNetwork = (): string | undefined => {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'network namespaces need root on Linux';
  try {
    run('ip netns add tandem-probe && ip netns del tandem-probe && command -v tc unshare');
    return undefined;
  } catch (error) {
    return `no network namespaces: ${error instanceof Error ? error.message.split('\n')[0] : ''}`;
  }
};

export interface TestNetwork {
  address(host: number): string;
  /** This process's own, on the same bridge. */
  readonly ownAddress: string;
  /** Words before a command that runs on a host, which sees nothing of the hidden directories. */
  on(host: number, hidden?: readonly string[]): readonly string[];
  receivedBytes(host: number): number;
  /** `rate` as `tc` has it. */
  limit(host: number, rate: string): void;
  unlimit(host: number): void;
  /** Nothing goes from one host to another any more; the other way is as it was. */
  cut(from: number, to: number): void;
  heal(from: number, to: number): void;
  /** The cable of a host. */
  setLink(host: number, state: 'up' | 'down'): void;
  /** Runs a command on a host. @returns what it printed */
  exec(host: number, command: string): string;
  remove(): void;
}

let networks = 0;

/** @param rate of each host's way out, as `tc` has it; as fast as the machine where absent */
export const makeNetwork = (hosts: number, rate?: string): TestNetwork => {
  networks += 1;
  const name = `t${process.pid % 10_000}n${networks}`;
  const subnet = `10.${(process.pid % 200) + 20}.${networks}`;
  const space = (host: number): string => `${name}h${host}`;
  const indices = [...Array(hosts).keys()];
  const remove = (): void => {
    for (const host of indices) run(`ip netns del ${space(host)} 2>/dev/null || true`);
    run(`ip link del ${name}b 2>/dev/null || true`);
  };
  const exec = (host: number, command: string): string =>
    run(`ip netns exec ${space(host)} sh -c '${command.replaceAll("'", "'\\''")}'`);
  const limit = (host: number, limited: string): void =>
    void exec(host, `tc qdisc replace dev eth0 root tbf rate ${limited} burst 128kb latency 100ms`);
  const network: TestNetwork = {
    address: (host) => `${subnet}.${host + 1}`,
    ownAddress: `${subnet}.254`,
    on: (host, hidden = []) => {
      const mounts = hidden.map((directory) => `mount -t tmpfs none ${directory} && `).join('');
      for (const directory of hidden) mkdirSync(directory, { recursive: true });
      return ['ip', 'netns', 'exec', space(host), 'unshare', '-m', 'sh', '-c', `${mounts}exec "$@"`, 'sh'];
    },
    receivedBytes: (host) => Number(exec(host, 'cat /sys/class/net/eth0/statistics/rx_bytes')),
    limit,
    unlimit: (host) => void exec(host, 'tc qdisc del dev eth0 root'),
    cut: (from, to) => void exec(from, `ip route add blackhole ${subnet}.${to + 1}/32`),
    heal: (from, to) => void exec(from, `ip route del blackhole ${subnet}.${to + 1}/32`),
    setLink: (host, state) => void run(`ip link set ${name}v${host} ${state}`),
    exec,
    remove,
  };
  try {
    run(
      `ip link add ${name}b type bridge && ip link set ${name}b up && ip addr add ${network.ownAddress}/24 dev ${name}b`,
    );
    for (const host of indices) {
      run(
        `ip netns add ${space(host)} && ip link add ${name}v${host} type veth peer name eth0 netns ${space(host)} && ip link set ${name}v${host} master ${name}b up`,
      );
      exec(host, `ip link set lo up && ip addr add ${network.address(host)}/24 dev eth0 && ip link set eth0 up`);
      if (rate !== undefined) limit(host, rate);
    }
    return network;
  } catch (error) {
    remove();
    throw error;
  }
};

/** A host's own cache below a directory. */
export const cacheOf = (directory: string, host: number): string => join(directory, `cache-${host}`);
