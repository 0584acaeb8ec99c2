import { describe, expect, it } from 'vitest';
import { testDirectory } from '../support/directory.js';
import { runHere } from './in-process.js';
import { SHIPPED_DIMS, tandem } from './tandem.js';

/** In a process of its own. */
const run = (...args: string[]) => tandem(args, testDirectory());

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

  it.each([
    { args: ['nonsense'], says: /unknown command 'nonsense'/ },
    { args: ['plan'], says: /missing required argument 'MODEL'/ },
    { args: ['generate', '--prompt', 'x'], says: /required option '--config <file>' not specified/ },
    { args: ['plan', 'x', '--tensor-parallel-size', '0'], says: /Expected a whole number, 1 or more/ },
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
    { args: ['launch', 'none.yaml'], says: /Expected a cluster config at none\.yaml/ },
  ])('fails at $args with a message instead of a stack', async ({ args, says }) => {
    const { status, stderr } = await runHere(...args);
    expect(status).toBe(1);
    expect(stderr).toMatch(says);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});
