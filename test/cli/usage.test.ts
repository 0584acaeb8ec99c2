import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fileDirectory } from '../support/directory.js';
import { runHere } from './in-process.js';
import { SHIPPED_DIMS, tandem } from './tandem.js';

const scratch = fileDirectory();
mkdirSync(join(scratch, 'folder.png'));

/** In a process of its own. */
const run = (...args: string[]) => tandem(args, scratch);

const draw = (...more: string[]) => ['generate', '--config', 'configs/single-cpu.yaml', '--prompt', 'a cat', ...more];

describe('tandem', () => {
  it.each(['plan', 'partition', 'verify', 'generate', 'launch', 'bench', 'schema'])(
    'explains "%s" with an example',
    async (command) => {
      const { status, stdout } = await runHere(command, '--help');
      expect(status).toBe(0);
      expect(stdout).toMatch(/Examples?:\n {2}\$ tandem /);
    },
  );

  it('names its version and its commands', async () => {
    expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await run('--help')).stdout).toMatch(/plan .*partition .*verify .*generate .*launch .*bench /s);
  });

  it('ends with 2 where it does not understand, and with 1 where it fails', async () => {
    expect(await run('nonsense')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(/nonsense/) });
    expect(await run('launch', 'none.yaml')).toMatchObject({ status: 1, stderr: expect.stringMatching(/none\.yaml/) });
  });

  it('names files in its examples as they are found from where it is run', () => {
    const help = execFileSync(process.execPath, [resolve('bin/tandem.js'), '--help'], { cwd: scratch });
    const config = relative(scratch, resolve('configs/dual-cpu.yaml'));
    expect(help.toString()).toContain(`tandem generate --config ${config}`);
  });

  it.each([
    { args: ['nonsense'], says: /unknown command 'nonsense'/ },
    { args: ['plan'], says: /missing required argument 'MODEL'/ },
    { args: ['generate', '--prompt', 'x'], says: /required option '--config <file>' not specified/ },
    { args: ['plan', 'x', '--tensor-parallel-size', '0'], says: /Expected a whole number, from 1 to 64/ },
    { args: ['plan', 'x', '--tensor-parallel-size', '1000'], says: /Expected a whole number, from 1 to 64/ },
    { args: ['verify', 'x', '--rounds', '0'], says: /Expected a whole number, 1 or more/ },
    { args: ['verify', 'x', '--seed', '99999999999999999999'], says: /from 0 to 9007199254740991/ },
    { args: ['generate', '--num-inference-steps', '-1'], says: /Expected a whole number, from 1 to 1000/ },
    { args: ['generate', '--guidance-scale', '1e9'], says: /Expected a number, from 0 to 1000/ },
    { args: ['plan', 'x', '--dim', 'height'], says: /Expected NAME=SIZE/ },
    { args: ['plan', 'x', '--provider', 'gpu'], says: /Allowed choices are cpu, cuda, webgpu, dml, coreml/ },
    {
      args: ['partition', 'x', '--out', 'y', '--quantize', 'int4'],
      says: /'int4' is invalid. Allowed choices are none, int8/,
    },
    { args: ['plan', 'models/emoji-sd'], says: /Expected --tensor-parallel-size N .* or --config FILE/ },
    {
      args: ['plan', 'models/emoji-sd', '--config', 'configs/dual-cpu.yaml', '--threads', '2'],
      says: /--threads and --config/,
    },
    {
      args: ['plan', 'models/emoji-sd', '--config', 'configs/dual-cpu.yaml', '--tensor-parallel-size', '3'],
      says: /Expected --tensor-parallel-size 2/,
    },
    {
      args: ['generate', '--config', 'x', '--prompt', 'x', '--scheduler', 'magic'],
      says: /'magic' is invalid. Allowed choices are ddim, ddpm, pndm, euler, euler-ancestral, heun, lms, kdpm2, kdpm2-ancestral, dpmpp-2m, dpmpp-singlestep, dpmpp-sde, deis, unipc, lcm, tcd, flow-match-euler, flow-match-heun, flow-match-lcm\./,
    },
    { args: ['bench'], says: /Expected --config FILE/ },
    {
      args: ['bench', 'models/emoji-sd', '--config', 'configs/dual-cpu.yaml'],
      says: /Expected one of a MODEL, --config files and --showcase/,
    },
    { args: ['bench', 'models/emoji-sd', '--cold', '--micro-batches', '2'], says: /--micro-batches and --cold/ },
  ])('does not understand $args, says why and ends with status 2', async ({ args, says }) => {
    const { status, stdout, stderr } = await runHere(...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
    expect(stdout).toBe('');
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  it.each([
    { args: ['plan', 'none.onnx', '--tensor-parallel-size', '2'], says: /at none\.onnx; there is nothing/ },
    { args: ['plan', 'configs', '--tensor-parallel-size', '2'], says: /configs has neither/ },
    { args: ['plan', 'package.json', '--tensor-parallel-size', '2'], says: /is not an ONNX model/ },
    {
      args: [
        'plan',
        'models/emoji-sd',
        '--tensor-parallel-size',
        '2',
        '--quantize',
        'int8',
        '--provider',
        'webgpu',
        ...SHIPPED_DIMS,
      ],
      says: /int8 weights run on provider "cpu" only, but rank 0 is "webgpu"/,
    },
    {
      args: ['launch', 'none.yaml'],
      says: /Expected a cluster config at none\.yaml; .* configs holds some that run as they are/,
    },
    {
      args: ['launch', 'models/emoji-sd'],
      says: /a directory is there\. "tandem init MODEL --out cluster\.yaml" writes one/,
    },
    { args: ['launch', 'models/emoji-sd/unet/model.onnx'], says: /that is a model\. "tandem init/ },
    { args: draw('--width', '100000'), says: /width must be at most 16384; found 100000/ },
    { args: draw('--out', 'nowhere/x.png'), says: /Expected a directory at .*nowhere, to write nowhere\/x\.png/ },
    { args: draw('--out', join(scratch, 'folder.png')), says: /\(EISDIR\): a directory is there; name a file/ },
    { args: draw('--trace', 'models'), says: /\(EISDIR\): a directory is there; name a file/ },
    { args: ['plan', 'models/emoji-sd', '--html', 'nowhere/x.html'], says: /Expected a directory at .*nowhere/ },
    { args: ['simulate', 'models/emoji-sd', '--svg', 'nowhere/x.svg'], says: /Expected a directory at .*nowhere/ },
    { args: ['bench', 'models/emoji-sd', '--chart', 'nowhere/x.svg'], says: /Expected a directory at .*nowhere/ },
  ])('fails at $args with a message instead of a stack', async ({ args, says }) => {
    const { status, stderr } = await runHere(...args);
    expect(status).toBe(1);
    expect(stderr).toMatch(says);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});
