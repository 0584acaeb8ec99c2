/**
 * A group of the chart's pods, of an image that the Dockerfile's steps made: with the commands, environment, secrets, probes and hooks
 * that the chart gives them, and what LeaderWorkerSet adds. Not run: the steps of the cuda target, whose base image and provider
 * library no registry of packages has, and Kubernetes itself.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { decode } from 'fast-png';
import { afterAll, beforeAll, expect } from 'vitest';
import { z } from 'zod';
import { tandem } from '../cli/tandem.js';
import {
  BUILD_MS,
  buildImage,
  canBuild,
  type Image,
  itWithImage,
  makeNetwork,
  POD_ADDRESS,
  type Pod,
  startPod,
} from './image.js';
import { leaderWorkerSet, ofKind, type PodTemplate, render } from './manifests.js';
import { succeed } from './tools.js';

const KEY = 'a-key-for-this-test-only';
const READY_MS = 180_000;

const probe = z.object({ exec: z.object({ command: z.array(z.string()) }) });
const hooks = z.object({ preStop: probe });

let image: Image;
let network: Awaited<ReturnType<typeof makeNetwork>>;
const removals: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  if (!canBuild) return;
  network = await makeNetwork();
  removals.push(network.remove);
  image = await buildImage();
  removals.push(image.remove);
}, BUILD_MS);
afterAll(async () => {
  for (const remove of removals) await remove();
});

const keyFiles = async (): Promise<Readonly<Record<string, string>>> => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-keys-'));
  const keys = join(directory, 'keys');
  expect((await tandem(['keys', keys], directory)).status).toBe(0);
  const names = ['leader.secret', 'hosts.public', 'worker.secret', 'leader.public'];
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(keys, name), 'utf8')]));
  rmSync(directory, { recursive: true });
  return files;
};

const containerOf = ({ spec }: PodTemplate) => {
  const [container] = spec.containers;
  if (!container) throw new Error('Expected a container.');
  const env = z.array(z.object({ name: z.string(), value: z.string().default(KEY) })).parse(container.env);
  const own = Object.fromEntries(env.map(({ name, value }) => [name, value]));
  return { ...container, own, keys: spec.volumes.flatMap(({ secret }) => secret?.items.map(({ key }) => key) ?? []) };
};

const until = async (what: string, pods: readonly Pod[], isSo: () => Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + READY_MS;
  while (!(await isSo())) {
    const lost = pods.find(({ child }) => child.exitCode !== null);
    if (lost || Date.now() > deadline) {
      for (const { child } of pods) child.kill('SIGKILL');
      throw new Error(`Never ${what}:\n${(await Promise.all(pods.map(({ said }) => said))).join('\n---\n')}`);
    }
    await delay(1000);
  }
};

const ASK = `const answer = await fetch('http://127.0.0.1:8080/v1/images/generations', {
  method: 'POST',
  headers: { 'content-type': 'application/json', authorization: 'Bearer ${KEY}' },
  body: JSON.stringify({ prompt: 'a red apple', num_inference_steps: 4 }),
});
process.stdout.write((await answer.json()).data[0].b64_json);`;

itWithImage(
  'makes a picture with a leader and a worker, and the worker stays until the leader is done',
  async () => {
    const secrets = await keyFiles();
    const values = { keys: { files: secrets }, apiKey: { value: KEY }, config: { parallel: 'tensor' } };
    const manifests = await render(values);
    const { leaderTemplate, workerTemplate } = leaderWorkerSet.parse(ofKind(manifests, 'LeaderWorkerSet')[0]).spec
      .leaderWorkerTemplate;
    const map = ofKind(manifests, 'ConfigMap').find(({ data }) => Object.hasOwn(Object(data), 'tandem.yaml'));
    const config = z.object({ data: z.object({ 'tandem.yaml': z.string() }) }).parse(map).data['tandem.yaml'];
    const start = (template: PodTemplate, index: number): Pod => {
      const { own, args = [], keys } = containerOf(template);
      const set = { LWS_LEADER_ADDRESS: POD_ADDRESS, LWS_GROUP_SIZE: '2', LWS_WORKER_INDEX: String(index) };
      const secret = Object.fromEntries(keys.map((name) => [name, secrets[name] ?? '']));
      const env = { ...own, ...set };
      return startPod(image, { name: `pod-${index}`, network: network.name, config, secrets: secret, env, args });
    };
    const [worker, leader] = [start(workerTemplate, 1), start(leaderTemplate, 0)];
    const pods = [worker, leader];
    const workers = containerOf(workerTemplate);
    const isWell = async (found: unknown) => (await worker.exec(probe.parse(found).exec.command)).status === 0;
    const health = ['node', '/opt/tandem/deploy/docker/health.mjs', 'ready'];

    await until('started', pods, () => isWell(workers.startupProbe));
    await until('ready', pods, async () => (await leader.exec(health)).status === 0);
    await until('running', pods, () => isWell(workers.readinessProbe));
    const answer = await succeed('ip', [
      ...['netns', 'exec', network.name, process.execPath, '--input-type=module', '--eval', ASK],
    ]);
    expect(decode(Buffer.from(answer, 'base64'))).toMatchObject({ width: 64, height: 64 });

    let isStopped = false;
    const hook = worker.exec(hooks.parse(workers.lifecycle).preStop.exec.command).finally(() => {
      isStopped = true;
    });
    await delay(2000);
    expect(isStopped).toBe(false);
    leader.child.kill('SIGTERM');
    expect(await leader.ended).toBe(143);
    expect(await leader.said).toMatch(/"msg":"drained"/);
    // It runs no rank: the leader has ended them, and is still seen or already gone.
    expect(await hook).toMatchObject({ status: 0, output: expect.stringMatching(/^(joined|waiting)\n$/) });
    expect(await isWell(workers.livenessProbe)).toBe(true);
    expect(await isWell(workers.readinessProbe)).toBe(false);
    worker.child.kill('SIGTERM');
    expect(await worker.ended).toBe(143);
  },
  BUILD_MS,
);
