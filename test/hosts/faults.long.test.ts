/** A cluster of two hosts through every fault of a network: seen soon, the picture under way is the same, and nothing is left behind. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAlive } from '../support/processes.js';
import { FAULTS, type Outcome, tryFault } from './faults.js';
import { startProgram } from './helpers.js';
import { cacheOf, makeNetwork, type TestNetwork, whyNoNetwork } from './network.js';
import { ServedHosts } from './served-hosts.js';

const why = whyNoNetwork();
if (why !== undefined) process.stderr.write(`Faults of a network are not tested here: ${why}.\n`);

const STEPS = 40;

describe.skipIf(why !== undefined)('a cluster of two hosts', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'tandem-faults-'));
  const outcomes: Outcome[] = [];
  let network: TestNetwork;
  let hosts: ServedHosts;
  let expected = '';
  let plainMs = 0;

  beforeAll(async () => {
    mkdirSync(cacheOf(scratch, 0), { recursive: true });
    await startProgram(['keys', join(scratch, 'keys'), '--host', 'b', '--host', 'c'], scratch).ended;
    network = makeNetwork(3);
    hosts = new ServedHosts(network, scratch);
    hosts.startHost(1, 'b');
    hosts.startLeader();
    await hosts.ready();
    const start = performance.now();
    expected = await hosts.picture(STEPS);
    plainMs = performance.now() - start;
  }, 180_000);

  afterAll(async () => {
    await hosts.stop();
    network.remove();
    rmSync(scratch, { recursive: true, force: true });
    const rows = outcomes.map(({ name, seenMs, pictureMs }) => [
      name.padEnd(60),
      seenMs === undefined ? '-' : `${seenMs.toFixed(0)} ms`,
      `${(pictureMs / 1000).toFixed(1)} s`,
    ]);
    process.stdout.write(
      `${rows.map((row) => row.join('  ')).join('\n')}\n(undisturbed ${(plainMs / 1000).toFixed(1)} s)\n`,
    );
    expect([...hosts.started].filter(isAlive)).toEqual([]);
  }, 60_000);

  it.each(FAULTS)('makes the same picture when $name', async (fault) => {
    const outcome = await tryFault(hosts, fault, { steps: STEPS, expected, beginAfterMs: plainMs / 3 });
    outcomes.push(outcome);
    expect(outcome.isSame).toBe(true);
    if (fault.withinMs !== undefined) expect(outcome.seenMs).toBeLessThan(fault.withinMs);
  });

  it('keeps weights when the leader is killed, and gives them to the next one', async () => {
    const kept = await hosts.pidOf(1);
    const ownWorker = await hosts.pidOf(0);
    hosts.leader.child.kill('SIGKILL');
    await hosts.leader.ended;
    hosts.startLeader();
    await hosts.ready();
    expect(await hosts.pidOf(1)).toBe(kept);
    expect(await hosts.picture(STEPS)).toBe(expected);
    expect(isAlive(ownWorker)).toBe(false);
  });

  it('gives a lost place to a spare, and the picture goes on there', async () => {
    const spare = hosts.startHost(2, 'c');
    await spare.said(/Joined the leader/);
    const fault = {
      name: 'host b is killed, and a spare takes its place',
      begin: () => hosts.signalHost(1, 'SIGKILL'),
      seen: /takes the place of host b/g,
    };
    const outcome = await tryFault(hosts, fault, { steps: STEPS, expected, beginAfterMs: plainMs / 3 });
    outcomes.push(outcome);
    expect(outcome.isSame).toBe(true);
  });
});
