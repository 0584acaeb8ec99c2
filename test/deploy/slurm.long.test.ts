/** Slurm for real: the sbatch file that is shipped, on two nodes of a Slurm that this test starts, makes a picture. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, beforeAll, expect, onTestFailed } from 'vitest';
import { tandem } from '../cli/tandem.js';
import { type Slurm, startSlurm } from './slurm.js';
import { itWith, type Ran, run } from './tools.js';

const FILE = resolve('deploy/slurm/tandem.sbatch');
const PROMPT = ['--prompt', 'a red apple', '--num-inference-steps', '4'];
const DEVICE = '{ provider: cpu, threads: 1 }';
/** Said, and not measured, so that one machine and two plan the same: then pictures are equal to the byte. */
const SPLIT = 'parallel: tensor\nwire: { link: { gbit_per_s: 4, latency_ms: 0.5 } }\n';

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.warn('Not run without root: a Slurm of its own needs it.');
const tools = itWith('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun');
const withSlurm = isRoot ? tools : tools.skip;

/** Nodes of one machine, but each with a cache of its own that the other does not see, as two machines have. */
const nodeScript = (directory: string): string => `#!/bin/sh
export XDG_CACHE_HOME="${directory}/cache-\${SLURM_NODEID:-0}"
run='exec "$@"'
[ "\${SLURM_PROCID:-0}" = 0 ] || run="mount -t tmpfs none ${directory}/cache-0; $run"
exec unshare -m sh -ec "$run" tandem "${process.execPath}" "${resolve('bin/tandem.js')}" "$@"
`;

let slurm: Slurm;
beforeAll(async () => {
  if (withSlurm === tools.skip) return;
  slurm = await startSlurm();
  writeFileSync(join(slurm.directory, 'tandem'), nodeScript(slurm.directory), { mode: 0o755 });
  const config = `model: ${resolve('models/emoji-sd')}\ndevices: [${DEVICE}]\n${SPLIT}join: { keys: keys, listen: "tcp://127.0.0.1:7070" }\n`;
  writeFileSync(join(slurm.directory, 'cluster.yaml'), config);
});
afterAll(() => slurm?.stop());

/** Submits the file, waits for its end, and gives the job's own output. */
const submit = async (...args: readonly string[]): Promise<Ran> => {
  const variables = { ...slurm.variables, TANDEM: join(slurm.directory, 'tandem') };
  const ended = await run('sbatch', ['--wait', '--output=job.log', FILE, ...args], { variables, cwd: slurm.directory });
  const output = readFileSync(join(slurm.directory, 'job.log'), 'utf8');
  onTestFailed(() => void process.stderr.write(`${ended.output}${output}`));
  return { ...ended, output };
};

withSlurm('tells what the leader is to run, and where keys are to be, where that is missing', async () => {
  expect(await submit()).toMatchObject({
    status: 2,
    output: expect.stringMatching(/^Expected what the leader is to run/),
  });
  expect(await submit('launch', 'cluster.yaml')).toMatchObject({
    status: 1,
    output: expect.stringMatching(/^Expected keys in keys, which all nodes see: run "tandem keys keys"/),
  });
});

withSlurm('makes on two nodes the picture that one machine makes, with each rank on a node of its own', async () => {
  const leaders = join(slurm.directory, 'cache-0');
  const alone = join(slurm.directory, 'alone.yaml');
  writeFileSync(alone, `model: ${resolve('models/emoji-sd')}\ndevices: [${DEVICE}, ${DEVICE}]\n${SPLIT}`);
  const expected = join(slurm.directory, 'expected.png');
  expect((await tandem(['generate', '--config', alone, ...PROMPT, '--out', expected], leaders)).status).toBe(0);
  expect((await tandem(['keys', join(slurm.directory, 'keys')], leaders)).status).toBe(0);

  const { status, output } = await submit(
    'generate',
    '--config',
    'cluster.yaml',
    ...PROMPT,
    '--out',
    'apple.png',
    '--json',
  );
  expect(status).toBe(0);
  const pixels = (file: string) => Buffer.from(decode(readFileSync(join(slurm.directory, file))).data);
  expect(pixels('apple.png').equals(pixels('expected.png'))).toBe(true);
  expect(output).toMatch(/"world_size": 2/);
  // The second node was sent its own rank's files, and not the first's.
  const received = readdirSync(join(slurm.directory, 'cache-1', 'tandem', 'received'), { recursive: true }).map(String);
  expect(received.filter((path) => path.includes('rank-1')).length).toBeGreaterThan(0);
  expect(received.filter((path) => path.includes('rank-0'))).toEqual([]);
  expect(await slurm.command('squeue', '--noheader')).toBe('');
});
