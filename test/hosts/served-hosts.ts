/** A leader that serves, and further hosts, on a test's network: what faults are tried on. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { CPU, type Program, startProgram, writeConfig } from './helpers.js';
import { cacheOf, type TestNetwork } from './network.js';

const KEY = 'a-key-for-tests-only';
const PORT = 8099;

const health = z.object({ ranks: z.array(z.object({ pid: z.number(), state: z.string() })) });
const answer = z.object({ data: z.array(z.object({ b64_json: z.string() })) });

/** All processes below one, it among them. */
export const processesOf = (root: number): readonly number[] => {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It has ended.
    }
  }
  const isBelow = (pid: number): boolean => pid === root || (pid > 1 && isBelow(parents.get(pid) ?? 0));
  return [...parents.keys()].filter(isBelow);
};

export class ServedHosts {
  readonly network: TestNetwork;
  readonly #scratch: string;
  readonly #config: string;
  readonly #hosts = new Map<number, Program>();
  readonly started = new Set<number>();
  #leader: Program | undefined;

  /** Host 0 leads, host 1 is `b`; host 2, where there is one, is the spare `c`. */
  constructor(network: TestNetwork, scratch: string) {
    this.network = network;
    this.#scratch = scratch;
    this.#config = writeConfig(scratch, 'served', [
      `devices: [${CPU}]`,
      `hosts: [{ name: b, devices: [${CPU}] }]`,
      `join: { keys: keys, address: ${network.address(0)} }`,
      `server: { host: ${network.address(0)}, port: ${PORT}, api_key: ${KEY} }`,
      'workers: { max_restarts: 20 }',
    ]);
  }

  get leader(): Program {
    if (this.#leader === undefined) throw new Error('Expected a leader.');
    return this.#leader;
  }

  host(number: number): Program {
    const found = this.#hosts.get(number);
    if (found === undefined) throw new Error(`Expected host ${number}.`);
    return found;
  }

  startHost(number: number, name: string): Program {
    const cache = cacheOf(this.#scratch, number);
    const args = ['worker', '--join', `tcp://${this.network.address(0)}:7070`, '--keys', `${this.#scratch}/keys`];
    const hidden = [cacheOf(this.#scratch, 0)];
    const program = startProgram([...args, '--name', name], cache, this.network.on(number, hidden));
    this.#hosts.set(number, program);
    return program;
  }

  startLeader(): Program {
    this.#leader = startProgram(['launch', this.#config], cacheOf(this.#scratch, 0), this.network.on(0));
    return this.#leader;
  }

  /** Every process of the cluster that there is now is remembered, so that it can be looked for at the end. */
  note(): void {
    for (const { child } of [this.leader, ...this.#hosts.values()])
      for (const pid of processesOf(child.pid ?? 0)) this.started.add(pid);
  }

  async ready(): Promise<void> {
    await this.leader.said(/Ready after/);
    this.note();
  }

  async picture(steps: number): Promise<string> {
    const response = await fetch(`http://${this.network.address(0)}:${PORT}/v1/images/generations`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a red apple', seed: 7, num_inference_steps: steps, response_format: 'b64_json' }),
    });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${response.status}: ${text}\n${this.leader.text()}`);
    return answer.parse(JSON.parse(text)).data[0]?.b64_json ?? '';
  }

  async pidOf(rank: number): Promise<number> {
    const headers = { authorization: `Bearer ${KEY}` };
    const response = await fetch(`http://${this.network.address(0)}:${PORT}/health`, { headers });
    return health.parse(await response.json()).ranks[rank]?.pid ?? 0;
  }

  signalHost(number: number, signal: NodeJS.Signals): void {
    for (const pid of processesOf(this.host(number).child.pid ?? 0)) process.kill(pid, signal);
  }

  async stop(): Promise<void> {
    this.note();
    const all = [this.leader, ...this.#hosts.values()];
    for (const { child } of all) child.kill('SIGTERM');
    await Promise.race([Promise.all(all.map(({ ended }) => ended)), delay(20_000)]);
    for (const { child } of all) child.kill('SIGKILL');
  }
}
