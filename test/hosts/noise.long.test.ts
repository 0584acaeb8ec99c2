/** Noise at every open port of a running cluster gets nowhere, and what crosses its wires is not what it computes with. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { curveKeyPair, Dealer } from 'zeromq';
import type { Cluster } from '#tandem/coordinator/cluster/index.js';
import { mlpInput, withCluster } from '../cluster/helpers.js';

const FRAMES = 100_000;
const LISTEN = '0A';

/** Ports of the loopback where a process of the cluster listens. */
const openPorts = (cluster: Cluster): readonly number[] => {
  const pids = [process.pid, ...cluster.workers.map(({ pid }) => pid)];
  const inodes = new Set(pids.flatMap(socketsOf));
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state, , , , , , inode = '']) => state === LISTEN && inodes.has(inode))
    .map(([, local = '']) => Number.parseInt(local.split(':')[1] ?? '0', 16));
};

const socketsOf = (pid: number): readonly string[] => {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return [];
    }
  });
};

/** Half of them as a stranger with keys of its own says them, half as bytes on a plain connection. */
const shout = async (port: number, frames: number): Promise<void> => {
  const { publicKey, secretKey } = curveKeyPair();
  const keyed = { curvePublicKey: publicKey, curveSecretKey: secretKey, curveServerKey: publicKey };
  const sockets = [new Dealer({ linger: 0, sendTimeout: 0 }), new Dealer({ linger: 0, sendTimeout: 0, ...keyed })];
  for (const socket of sockets) socket.connect(`tcp://127.0.0.1:${port}`);
  for (let sent = 0; sent < frames / 2; sent++) {
    const frame = randomBytes(1 + (sent % 300));
    await sockets[sent % 2]?.send(frame).catch(() => undefined);
  }
  for (const socket of sockets) socket.close();
  for (let sent = 0; sent < frames / 2; sent += 500) {
    const stranger = connect(port, '127.0.0.1').on('error', () => undefined);
    for (let part = 0; part < 500; part++) stranger.write(randomBytes(1 + (part % 300)));
    await delay(5);
    stranger.destroy();
  }
};

it('takes nothing of 100,000 random frames at every open port, and computes on', async () => {
  const notices: string[] = [];
  await withCluster(
    'mlp-2',
    async (cluster) => {
      const { ranks } = await cluster.step([mlpInput()]);
      const ports = openPorts(cluster);
      // The coordinator's own, and each worker's.
      expect(ports.length).toBeGreaterThanOrEqual(3);
      for (const port of ports) await shout(port, FRAMES);
      const after = await cluster.step([mlpInput()]);
      expect(after.ranks.map(({ outputs_sha256 }) => outputs_sha256)).toEqual(
        ranks.map(({ outputs_sha256 }) => outputs_sha256),
      );
      expect(cluster.restarts).toBe(0);
    },
    { transport: 'tcp', onNotice: (notice) => notices.push(notice) },
  );
  expect(notices).toEqual([]);
}, 300_000);

const CAPTURE = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.bind(('lo', 0)); s.settimeout(0.2)
out = open(sys.argv[1], 'wb'); print('listening', flush=True)
import os
parent = os.getppid()
while os.getppid() == parent:
    try: out.write(s.recv(65536)); out.flush()
    except TimeoutError: pass
`;

const canCapture = process.platform === 'linux' && process.getuid?.() === 0;
if (!canCapture) process.stderr.write('Packets are not looked at here: that needs root on Linux.\n');

it.skipIf(!canCapture)('sends no bytes of a tensor in the clear', async () => {
  const file = `/tmp/tandem-capture-${process.pid}`;
  const capture = spawn('python3', ['-c', CAPTURE, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(capture.stdout, 'data');
    const inputs = mlpInput();
    const secret = Buffer.from(inputs.x?.data ?? []).subarray(0, 32);
    let output = Buffer.alloc(0);
    await withCluster(
      'mlp-2',
      async (cluster) => {
        const { outputs } = await cluster.step([inputs]);
        output = Buffer.from(Object.values(outputs[0] ?? {})[0]?.data ?? []).subarray(0, 32);
      },
      { transport: 'tcp' },
    );
    await delay(300);
    const before = readFileSync(file);
    expect(before.byteLength).toBeGreaterThan(1000);
    expect(output.byteLength).toBe(32);
    expect(before.includes(secret)).toBe(false);
    expect(before.includes(output)).toBe(false);
    // That they would have been found: the same bytes as they are.
    const server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const plain = connect(typeof address === 'object' && address !== null ? address.port : 0, '127.0.0.1');
    plain.write(secret);
    await delay(500);
    plain.destroy();
    server.close();
    expect(readFileSync(file).includes(secret)).toBe(true);
  } finally {
    capture.kill('SIGKILL');
    rmSync(file, { force: true });
  }
});
