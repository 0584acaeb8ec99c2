/**
 * The image for CPUs, built by buildah with the Dockerfile's own steps on a Debian of the base image's release, and pods of it: its
 * user, environment and command in its file system, in a network of their own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { itWith, type Ran, run, succeed } from './tools.js';

const DOCKERFILE = 'deploy/docker/Dockerfile';
const BASE = join(process.env.TANDEM_TOOLS ?? '/usr/local', 'lib', 'tandem-tools', 'base');
const USER = 10001;
export const BUILD_MS = 900_000;

const isReady = process.getuid?.() === 0 && existsSync(BASE);
if (!isReady) console.warn(`Not run without root and ${BASE}: test/deploy/install-tools.sh makes it.`);
const tools = itWith('buildah', 'unshare', 'nsenter', 'ip', 'helm');
export const canBuild = isReady && tools !== tools.skip;
export const itWithImage = canBuild ? tools : tools.skip;

export interface Image {
  readonly scratch: string;
  /** Its file system. */
  readonly root: string;
  /** `NAME=VALUE` */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  remove(): Promise<void>;
}

type Buildah = (...args: readonly string[]) => Promise<string>;

const importBase = async (buildah: Buildah, name: string): Promise<void> => {
  const container = (await buildah('from', 'scratch')).trim();
  await buildah('add', '--quiet', container, BASE, '/');
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  // Of whoever stands between this machine and its registries.
  const authorities = 'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt';
  await buildah('config', '--env', path, '--env', authorities, container);
  await buildah('commit', '--quiet', '--rm', container, name);
};

export const buildImage = async (): Promise<Image> => {
  const scratch = mkdtempSync(join(tmpdir(), 'tandem-image-'));
  const store = ['--root', join(scratch, 'root'), '--runroot', join(scratch, 'run')];
  const buildah: Buildah = (...args) => succeed('buildah', [...store, ...args], { timeoutMs: BUILD_MS });
  await importBase(buildah, 'localhost/node:24');
  const how = ['--isolation', 'chroot', '--network', 'host', '--format', 'docker', '--quiet'];
  const what = ['--build-arg', 'NODE=localhost/node:24', '--ignorefile', `${DOCKERFILE}.dockerignore`];
  await buildah('bud', ...how, ...what, '--file', DOCKERFILE, '--target', 'cpu', '--tag', 'localhost/tandem:cpu', '.');
  const container = (await buildah('from', 'localhost/tandem:cpu')).trim();
  const root = (await buildah('mount', container)).trim();
  const { Docker } = JSON.parse(await buildah('inspect', '--type', 'image', 'localhost/tandem:cpu'));
  return {
    scratch,
    root,
    env: Docker.config.Env,
    entrypoint: Docker.config.Entrypoint,
    remove: async () => {
      await buildah('rm', '--all');
      rmSync(scratch, { recursive: true, force: true });
    },
  };
};

/** The address of pods in a network of their own. */
export const POD_ADDRESS = '10.77.0.1';

/** A network that leads nowhere, which pods share: what listens there, nobody else reaches. */
export const makeNetwork = async (): Promise<{ readonly name: string; remove(): Promise<string> }> => {
  const name = `tandem-${process.pid}`;
  await succeed('ip', ['netns', 'add', name]);
  const inside = (...args: readonly string[]): Promise<string> => succeed('ip', ['-n', name, ...args]);
  await inside('link', 'set', 'lo', 'up');
  await inside('link', 'add', 'pods', 'type', 'veth', 'peer', 'name', 'nobody');
  await inside('addr', 'add', `${POD_ADDRESS}/24`, 'dev', 'pods');
  for (const link of ['pods', 'nobody']) await inside('link', 'set', link, 'up');
  return { name, remove: () => succeed('ip', ['netns', 'del', name]) };
};

/** Files as Kubernetes mounts a Secret's: links, to what root owns and the pod's group may read. */
const mountSecret = (directory: string, files: Readonly<Record<string, string>>): void => {
  mkdirSync(join(directory, '..data'), { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const file = join(directory, '..data', name);
    writeFileSync(file, content);
    chownSync(file, 0, USER);
    chmodSync(file, 0o440);
    symlinkSync(join('..data', name), join(directory, name));
  }
};

export interface PodRequest {
  readonly name: string;
  readonly network: string;
  readonly config: string;
  readonly secrets: Readonly<Record<string, string>>;
  /** Beside the image's own. */
  readonly env: Readonly<Record<string, string>>;
  readonly args: readonly string[];
}

export interface Pod {
  readonly child: ChildProcess;
  /** What it said, once it has ended. */
  readonly said: Promise<string>;
  readonly ended: Promise<number | null>;
  /** Runs a command inside, as probes and hooks do. */
  exec(command: readonly string[]): Promise<Ran>;
}

export const startPod = (image: Image, request: PodRequest): Pod => {
  const directory = join(image.scratch, request.name);
  mkdirSync(join(directory, 'config'), { recursive: true });
  writeFileSync(join(directory, 'config', 'tandem.yaml'), request.config);
  mountSecret(join(directory, 'keys'), request.secrets);
  const env = ['env', '-i', ...image.env, ...Object.entries(request.env).map(([name, value]) => `${name}=${value}`)];
  const inside = ['sh', resolve('test/deploy/pod.sh'), image.root, directory, ...env, ...image.entrypoint];
  const outside = ['netns', 'exec', request.network, 'unshare', '-m', '--propagation', 'private'];
  const child = spawn('ip', [...outside, ...inside, ...request.args], { stdio: ['ignore', 'ignore', 'pipe'] });
  // Each program on the way becomes the next one, so that the child is the pod's own process.
  const enter = ['--target', String(child.pid), '--mount', '--root', '--wd', '--net'];
  return {
    child,
    said: text(child.stderr),
    ended: new Promise((done) => child.once('close', done)),
    exec: (command) => run('nsenter', [...enter, ...env, ...command]),
  };
};
