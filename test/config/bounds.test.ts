import { spawn } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { beforeAll, describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { parseClusterConfig } from '#tandem/coordinator/config/index.js';
import { chooseScheduler } from '#tandem/coordinator/pipeline/schedulers/choose-scheduler.js';
import { plan } from '#tandem/partition/index.js';
import {
  createGraph,
  createModel,
  createNode,
  createValueInfo,
  DataType,
  encodeModel,
} from '#tandem/partition/onnx/index.js';
import { decodeToWorker, encodeMessage } from '#tandem/shard-worker/wire.js';
import { start } from '../cli/tandem.js';
import { fileDirectory } from '../support/directory.js';

const directory = fileDirectory();
beforeAll(async () => {
  await writeFile(join(directory, 'model.onnx'), '');
});

const BASE = 'model: model.onnx\ndevices: [{ provider: cpu }]\n';

const refusal = (text: string): string => {
  try {
    parseClusterConfig(text, join(directory, 'cluster.yaml'));
  } catch (error) {
    if (error instanceof TandemError && error.code === 'CONFIG_INVALID') return error.problems.join('\n');
    throw error;
  }
  return '';
};

describe('a number of a config that would overflow or fill memory', () => {
  it.each([
    ['timeouts: { step_s: 10000000 }', /step_s: expected at most 1000000/],
    ['timeouts: { heartbeat_s: 0.0000001 }', /heartbeat_s: expected 0.001 or more/],
    ['server: { drain_s: 3000000 }', /drain_s: expected at most 1000000/],
    ['server: { max_queue: 1e15 }', /max_queue: expected at most 100000/],
    ['workers: { keep_warm_s: 1e12 }', /keep_warm_s: expected at most 1000000/],
    ['workers: { max_restarts: 1e12 }', /max_restarts: expected at most 1000000/],
    ['defaults: { num_inference_steps: 1e9 }', /num_inference_steps: expected at most 1000/],
    ['defaults: { width: 8000000 }', /width: expected at most 16384/],
    ['defaults: { guidance_scale: 1e300 }', /guidance_scale: expected at most 1000/],
    [`shards: ${'a'.repeat(5000)}`, /shards: expected at most 4096 characters/],
  ])('is refused: %s', (line, expected) => {
    expect(refusal(`${BASE}${line.slice(0, 6000)}\n`)).toMatch(expected);
  });

  it.each([
    ['{ provider: cpu, threads: 1000000 }', /threads: expected at most 1024/],
    ['{ provider: cuda, device_id: 1e9 }', /device_id: expected at most 255/],
    ['{ provider: cpu, speed: 1e-300 }', /speed: expected 0.000001 or more/],
  ])('is refused of a device: %s', (device, expected) => {
    expect(refusal(`model: model.onnx\ndevices: [${device}]\n`)).toMatch(expected);
  });

  it('is refused where there are more devices than anybody has', () => {
    const devices = Array.from({ length: 65 }, () => '{ provider: cpu }').join(', ');
    expect(refusal(`model: model.onnx\ndevices: [${devices}]\n`)).toMatch(/devices: expected at most 64 entries/);
  });

  it('is refused by a worker too', () => {
    const reset = { kind: 'reset' as const, generation: 1, peers: [], after_step: 0 };
    expect(() => decodeToWorker(encodeMessage({ ...reset, exchange_timeout_ms: 2 ** 31 }))).toThrow(
      /exchange_timeout_ms/,
    );
    expect(decodeToWorker(encodeMessage({ ...reset, exchange_timeout_ms: 2 ** 31 - 1 })).kind).toBe('reset');
  });
});

describe('aliases in a config', () => {
  it('that name themselves are refused', () => {
    expect(refusal(`${BASE}defaults: &a { width: *a }\n`)).toMatch(/expected aliases .* finite/);
    expect(refusal('&a [*a]')).toMatch(/expected aliases .* finite/);
  });

  it('that multiply are refused before they fill memory', () => {
    const levels = Array.from(
      { length: 30 },
      (_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(', ')}]`,
    );
    const began = performance.now();
    expect(refusal(`l0: &l0 [x]\n${levels.join('\n')}\n${BASE}`)).toMatch(/expected aliases .* finite/);
    expect(performance.now() - began).toBeLessThan(2000);
  });

  it('of devices that are alike are what they are for', () => {
    const text = 'model: model.onnx\ndevices: [&cpu { provider: cpu, threads: 1 }, *cpu]\n';
    expect(parseClusterConfig(text, join(directory, 'cluster.yaml')).devices).toHaveLength(2);
  });
});

describe('a scheduler_config.json', () => {
  it.each([
    [{ num_train_timesteps: 2e9 }, /num_train_timesteps/],
    [{ _class_name: 'LCMScheduler', original_inference_steps: 1e9 }, /original_inference_steps/],
    [{ _class_name: 'LCMScheduler', original_inference_steps: 1001 }, /original_inference_steps/],
    [{ steps_offset: -1 }, /steps_offset/],
    [{ trained_betas: [0.1, 0.2] }, /trained_betas has 2 values/],
  ])('is refused for %j', (changes, expected) => {
    const choose = () => chooseScheduler({ _class_name: 'DDIMScheduler', ...changes });
    expect(choose).toThrow(
      expect.objectContaining({ code: 'SCHEDULER_UNSUPPORTED', message: expect.stringMatching(expected) }),
    );
  });
});

describe('a place that cannot be used', () => {
  const config = async (name: string, lines: string): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, `parallel: tensor\ndevices: [{ provider: cpu }, { provider: cpu }]\n${lines}\n`);
    return path;
  };

  it.each([
    ['a model that is a link to itself', 'model: loop', /expected a model directory/],
    [
      'shards in a link to itself',
      `model: ${process.cwd()}/models/emoji-sd\nshards: loop`,
      /ELOOP.*links that lead in a circle/,
    ],
    [
      'shards in a file',
      `model: ${process.cwd()}/models/emoji-sd\nshards: file`,
      // ENOTDIR or EEXIST, by the version of Node.
      /part of the path is a file|something else is there already/,
    ],
    [
      'shards below a file',
      `model: ${process.cwd()}/models/emoji-sd\nshards: file/below`,
      /part of the path is a file/,
    ],
  ])('is told in words: %s', async (_, lines, expected) => {
    await symlink('loop', join(directory, 'loop')).catch(() => undefined);
    await writeFile(join(directory, 'file'), '');
    await mkdir(join(directory, 'cache'), { recursive: true });
    const path = await config('place.yaml', lines);
    const { status, stderr } = await start(
      ['generate', '--config', path, '--prompt', 'a cat'],
      join(directory, 'cache'),
    ).ended;
    expect([status, stderr]).toEqual([expect.any(Number), expect.stringMatching(expected)]);
    expect(status).toBe(1);
    expect(stderr).not.toMatch(/not an error that Tandem foresees/);
  });

  it('is told in words: a temporary directory and a file size that have no room', async () => {
    const path = await config('full.yaml', `model: ${process.cwd()}/models/emoji-sd\nshards: shards`);
    const bin = join(process.cwd(), 'bin/tandem.js');
    // A limit of 64 KiB on any file (in blocks of 512 bytes) stands for a full disk.
    const limited = ['-c', 'ulimit -f 128; exec "$@"', 'sh', process.execPath, bin];
    const child = spawn('sh', [...limited, 'generate', '--config', path, '--prompt', 'a cat'], {
      env: { ...process.env, XDG_CACHE_HOME: join(directory, 'cache') },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const said = await text(child.stderr);
    expect(said).toMatch(/may write|may have|disk/);
    expect(said).not.toMatch(/not an error that Tandem foresees/);
  });
});

describe('a graph', () => {
  it('of more nodes than are planned is refused at once, with the limit', async () => {
    const node = Array.from({ length: 65_537 }, (_, i) =>
      createNode({ opType: 'Tanh', input: [`t${i}`], output: [`t${i + 1}`] }),
    );
    const [input, output] = ['t0', 't65537'].map((name) => createValueInfo(name, DataType.FLOAT, [1]));
    if (input === undefined || output === undefined) throw new Error('Expected two.');
    const graph = createGraph({ name: 'chain', node, input: [input], output: [output] });
    const path = join(directory, 'chain.onnx');
    const model = createModel({ irVersion: 8n, opsetImport: [{ domain: '', version: 17n }], graph });
    await writeFile(path, encodeModel(model));
    const devices = [0, 1].map(() => ({ provider: 'cpu' as const, deviceId: 0 }));
    await expect(plan({ model: { path }, devices, dims: {}, wire: 'fp32' })).rejects.toMatchObject({
      code: 'MODEL_TOO_LARGE',
      message: expect.stringMatching(/at most 65536 nodes, found 65537/),
    });
  });
});
