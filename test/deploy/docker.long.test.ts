/**
 * The image: its Dockerfile's steps are run by buildah, on a Debian of the base image's release, and what they make serves a picture
 * as a pod would run it. Not run: the steps of the cuda target, whose base and provider library no registry of packages has.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { decode } from 'fast-png';
import { afterAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { freePort } from '../server/helpers.js';
import { configInContainer, itWith, run, succeed } from './tools.js';

const DOCKERFILE = 'deploy/docker/Dockerfile';
const COMPOSE = 'deploy/docker/compose.yaml';
const BASE = join(process.env.TANDEM_TOOLS ?? '/usr/local', 'lib', 'tandem-tools', 'base');
const KEY = 'a-key-for-this-test-only';
const BUILD_MS = 900_000;
const READY_MS = 180_000;

describe('the Dockerfile', () => {
  itWith('hadolint')('has no faults by hadolint', async () => {
    expect(await succeed('hadolint', [DOCKERFILE])).toBe('');
  });

  it('takes everything into the image that the package has', () => {
    const { files } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly files: readonly string[] };
    const copied = [...readFileSync(DOCKERFILE, 'utf8').matchAll(/^COPY (?!--)(.*) \S+$/gm)].flatMap(([, from = '']) =>
      from.split(' '),
    );
    const made = ['dist'];
    const missing = files.filter(
      (file) => !made.includes(file) && !copied.some((from) => `${file}/`.startsWith(`${from}/`)),
    );
    expect(missing).toEqual([]);
  });
});

describe('compose.yaml', () => {
  const config = () => succeed('docker-compose', ['-f', COMPOSE, 'config'], { variables: { TANDEM_API_KEY: KEY } });

  itWith('docker-compose')('reserves GPUs for the service, and asks the server how it is', async () => {
    const { services } = parse(await config());
    expect(Object.keys(services)).toEqual(['tandem', 'tandem-cpu']);
    expect(services.tandem).toMatchObject({
      build: { target: 'cuda' },
      read_only: true,
      healthcheck: { test: ['CMD', 'node', '/opt/tandem/deploy/docker/health.mjs', 'ready'] },
      deploy: { resources: { reservations: { devices: [{ driver: 'nvidia', count: 'all', capabilities: ['gpu'] }] } } },
    });
  });

  itWith('docker-compose')('starts nothing without a key for clients', async () => {
    const { status, output } = await run('docker-compose', ['-f', COMPOSE, 'config']);
    expect(status).not.toBe(0);
    expect(output).toMatch(/TANDEM_API_KEY/);
  });

  it.each(['cpu', 'cuda'])('has a valid config for %s', async (target) => {
    const { devices, server } = await configInContainer(readFileSync(`deploy/docker/${target}.yaml`, 'utf8'));
    expect(devices.map(({ provider }) => provider)).toEqual([target, target]);
    expect(server).toMatchObject({ host: '0.0.0.0', apiKeyVariable: 'TANDEM_API_KEY' });
  });
});

describe('the image for CPUs', () => {
  const isReady = process.getuid?.() === 0 && existsSync(BASE);
  if (!isReady) console.warn(`Not run without root and ${BASE}: test/deploy/install-tools.sh makes it.`);
  const tools = itWith('buildah', 'unshare');
  const withBuild = isReady ? tools : tools.skip;

  const scratch = mkdtempSync(join(tmpdir(), 'tandem-image-'));
  const buildah = (...args: readonly string[]): Promise<string> =>
    succeed('buildah', ['--root', join(scratch, 'root'), '--runroot', join(scratch, 'run'), ...args], {
      timeoutMs: BUILD_MS,
    });
  afterAll(async () => {
    if (isReady) await buildah('rm', '--all');
    rmSync(scratch, { recursive: true, force: true });
  });

  const importBase = async (name: string): Promise<void> => {
    const container = (await buildah('from', 'scratch')).trim();
    await buildah('add', '--quiet', container, BASE, '/');
    const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    // Of whoever stands between this machine and its registries.
    await buildah(
      'config',
      '--env',
      `PATH=${path}`,
      '--env',
      'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt',
      container,
    );
    await buildah('commit', '--quiet', '--rm', container, name);
  };

  const build = async (): Promise<string> => {
    await importBase('localhost/node:24');
    const how = ['--isolation', 'chroot', '--network', 'host', '--format', 'docker'];
    const what = [
      '--build-arg',
      'NODE=localhost/node:24',
      '--ignorefile',
      `${DOCKERFILE}.dockerignore`,
      '--file',
      DOCKERFILE,
    ];
    await buildah('bud', '--quiet', ...how, ...what, '--target', 'cpu', '--tag', 'localhost/tandem:cpu', '.');
    const container = (await buildah('from', 'localhost/tandem:cpu')).trim();
    return (await buildah('mount', container)).trim();
  };

  /** What the image says of itself, beside its files. */
  const described = async () => {
    const { Docker } = JSON.parse(await buildah('inspect', '--type', 'image', 'localhost/tandem:cpu'));
    return Docker.config as { readonly Env: readonly string[]; readonly Entrypoint: string[]; readonly Cmd: string[] };
  };

  const startPod = async (root: string, port: number) => {
    const directory = join(scratch, 'config');
    mkdirSync(directory, { mode: 0o755 });
    const config = parse(readFileSync('deploy/docker/cpu.yaml', 'utf8'));
    const own = { model: '/opt/tandem/models/emoji-sd', server: { ...config.server, host: '127.0.0.1', port } };
    writeFileSync(join(directory, 'tandem.yaml'), stringify({ ...config, ...own }), { mode: 0o644 });
    const { Env, Entrypoint, Cmd } = await described();
    const variables = [...Env, `TANDEM_API_KEY=${KEY}`, `TANDEM_PORT=${port}`];
    const inPod = (...command: readonly string[]) => [
      ...['-m', '--propagation', 'private', 'sh', resolve('test/deploy/pod.sh'), root, directory, 'env', '-i'],
      ...[...variables, ...command],
    ];
    return { server: spawn('unshare', inPod(...Entrypoint, ...Cmd), { stdio: ['ignore', 'ignore', 'pipe'] }), inPod };
  };

  withBuild(
    'is built by the steps of the Dockerfile, and serves a picture as nobody, with a root that is read-only',
    async () => {
      const port = await freePort();
      const { server, inPod } = await startPod(await build(), port);
      const said = text(server.stderr);
      const ended = new Promise<number | null>((done) => server.once('close', done));
      const isWell = async () =>
        (await run('unshare', inPod('node', '/opt/tandem/deploy/docker/health.mjs', 'ready'))).status === 0;
      const deadline = Date.now() + READY_MS;
      while (!(await isWell())) {
        if (server.exitCode !== null || Date.now() > deadline) throw new Error(`Never ready:\n${await said}`);
        await delay(1000);
      }
      const answer = await fetch(`http://127.0.0.1:${port}/v1/images/generations`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${KEY}` },
        body: JSON.stringify({ prompt: 'a red apple', num_inference_steps: 4 }),
      });
      const { data } = (await answer.json()) as { readonly data: readonly { readonly b64_json: string }[] };
      expect(decode(Buffer.from(data[0]?.b64_json ?? '', 'base64'))).toMatchObject({ width: 64, height: 64 });
      server.kill('SIGTERM');
      expect(await ended).toBe(143);
      expect(await said).toMatch(/"msg":"drained"/);
    },
    BUILD_MS,
  );
});
