import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import {
  defaultCalibrationFile,
  defaultShardsDirectory,
  parseClusterConfig,
  readClusterConfig,
} from '#tandem/coordinator/config/index.js';
import { fileDirectory } from '../support/directory.js';

const directory = fileDirectory();

beforeAll(async () => {
  await writeFile(join(directory, 'model.onnx'), '');
});

const file = (): string => join(directory, 'cluster.yaml');

/** The problems of a config text, without the file's name in front of them. */
const problemsOf = (text: string): readonly string[] => {
  try {
    parseClusterConfig(text, file());
  } catch (error) {
    if (!(error instanceof TandemError)) throw error;
    expect(error.code).toBe('CONFIG_INVALID');
    return error.problems.map((problem) => problem.replace(`${file()}:`, ''));
  }
  throw new Error('Expected the config to be refused.');
};

const ONE_DEVICE = 'model: model.onnx\ndevices: [{ provider: cpu }]\n';

describe('a cluster config', () => {
  it('fills in every default and makes paths absolute', () => {
    const config = parseClusterConfig(ONE_DEVICE, file());
    expect(config).toMatchObject({
      file: file(),
      model: join(directory, 'model.onnx'),
      devices: [{ provider: 'cpu', deviceId: 0, threads: availableParallelism() }],
      wire: { dtype: 'fp32', transport: 'auto' },
      quantize: 'none',
      split: 'tensor',
      shards: defaultShardsDirectory(),
      calibration: defaultCalibrationFile(),
      timeouts: { startMs: 30_000, loadMs: 600_000, stepMs: 600_000, heartbeatMs: 3_000 },
      workers: { keepWarmMs: process.platform === 'win32' ? 0 : 600_000, maxRestarts: 5 },
      defaults: {},
    });
  });

  it('takes every key', () => {
    const text = `
model: model.onnx
tensor_parallel_size: 2
devices:
  - { provider: cuda, device_id: 1, memory_limit: 1.5GiB, speed: 2 }
  - { provider: cpu, threads: 3, memory_limit: 1000 }
wire: { dtype: fp16, transport: tcp }
split: batch
shards: made/here
calibration: made/rates.json
timeouts: { start_s: 1, load_s: 2, step_s: 3, heartbeat_s: 0.5 }
defaults: { num_inference_steps: 4, guidance_scale: 1, width: 64, height: 72, scheduler: euler }
`;
    expect(parseClusterConfig(text, file())).toMatchObject({
      devices: [
        { provider: 'cuda', deviceId: 1, threads: 1, memoryLimit: 1.5 * 2 ** 30, speed: 2 },
        { provider: 'cpu', deviceId: 0, threads: 3, memoryLimit: 1000 },
      ],
      wire: { dtype: 'fp16', transport: 'tcp' },
      split: 'batch',
      shards: resolve(directory, 'made/here'),
      calibration: resolve(directory, 'made/rates.json'),
      timeouts: { startMs: 1000, loadMs: 2000, stepMs: 3000, heartbeatMs: 500 },
      defaults: { numInferenceSteps: 4, guidanceScale: 1, width: 64, height: 72, scheduler: 'euler' },
    });
  });

  it('shares the cores among the cpu devices', () => {
    const config = parseClusterConfig('model: model.onnx\ndevices: [{ provider: cpu }, { provider: cpu }]', file());
    const share = Math.max(1, Math.floor(availableParallelism() / 2));
    expect(config.devices.map(({ threads }) => threads)).toEqual([share, share]);
  });

  it('reports every problem at once, each with line, column and key', () => {
    const text = [
      'modle: model.onnx',
      'devices:',
      '  - provider: gpu',
      '    memory_limit: lots',
      '  - provider: cpu',
      '    threads: 1.5',
      '    speed: 0',
      'wire:',
      '  dtype: fp8',
      'tensor_parallel_size: 3',
      'defaults: { width: 65 }',
    ].join('\n');
    expect(problemsOf(text)).toEqual([
      '1:1 model: missing: expected text',
      '1:1 modle: unknown key; did you mean "model"?',
      '3:15 devices[0].provider: expected one of cpu, cuda, webgpu, dml, coreml; found "gpu"',
      '4:19 devices[0].memory_limit: expected a size such as "8GiB", "512MB" or a whole number of bytes; found "lots"',
      '6:14 devices[1].threads: expected a whole number; found 1.5',
      '7:12 devices[1].speed: expected 0.000001 or more; found 0',
      '9:10 wire.dtype: expected one of fp32, fp16, int8; found "fp8"',
      '10:23 tensor_parallel_size: expected 2, the number of devices listed; found 3 (leave the key out, or list as many devices)',
      '11:20 defaults.width: expected a multiple of 8; found 65',
    ]);
  });

  it('refuses a model that is not there', () => {
    const path = join(directory, 'gone.onnx');
    expect(problemsOf('model: gone.onnx\ndevices: [{ provider: cpu }]')).toEqual([
      `1:8 model: expected a model directory or .onnx file; found nothing at ${path}`,
    ]);
  });

  it('refuses one GPU for two workers, but not one cpu', () => {
    const devices = (provider: string) =>
      `model: model.onnx\ndevices: [{ provider: ${provider} }, { provider: ${provider} }]`;
    expect(problemsOf(devices('cuda'))).toEqual([
      '2:31 devices[1]: expected a device of its own; cuda:0 is already devices[0] (set another device_id)',
    ]);
    expect(parseClusterConfig(devices('cpu'), file()).devices).toHaveLength(2);
  });

  it('lets workers outlive their coordinator over ipc only', () => {
    const config = (transport: string, workers: string) =>
      `model: model.onnx\ndevices: [{ provider: cpu }]\nwire: { transport: ${transport} }\nworkers: ${workers}`;
    expect(problemsOf(config('tcp', '{ keep_warm_s: 50 }'))).toEqual([
      expect.stringMatching(/^4:25 workers\.keep_warm_s: expected 0 with wire\.transport "tcp"; found 50/),
    ]);
    expect(problemsOf(config('ipc', '{ keep_warm_s: 5 }'))).toEqual([
      '4:25 workers.keep_warm_s: expected 0 or at least 10 seconds; found 5',
    ]);
    expect(parseClusterConfig(config('tcp', '{ max_restarts: 0 }'), file()).workers).toEqual({
      keepWarmMs: 0,
      maxRestarts: 0,
    });
    expect(parseClusterConfig(config('ipc', '{ keep_warm_s: 50 }'), file()).workers.keepWarmMs).toBe(50_000);
  });

  it('takes int8 weights on cpus, and says what else it takes, and where', () => {
    const config = (quantize: string, provider: string) =>
      `model: model.onnx\nquantize: ${quantize}\ndevices: [{ provider: cpu }, { provider: ${provider} }]`;
    expect(parseClusterConfig(config('int8', 'cpu'), file()).quantize).toBe('int8');
    expect(problemsOf(config('int4', 'cpu'))).toEqual(['2:11 quantize: expected one of none, int8; found "int4"']);
    expect(problemsOf(config('int8', 'webgpu'))).toEqual([
      '2:11 quantize: expected "none" unless every device is a cpu; found "int8", and devices[1] is "webgpu"',
    ]);
  });

  it('takes a place for each network beside the denoiser, and says which places and networks there are', async () => {
    await mkdir(join(directory, 'pipeline', 'text_encoder'), { recursive: true });
    await writeFile(join(directory, 'pipeline', 'text_encoder', 'model.onnx'), '');
    const config = (placement: string) =>
      `model: pipeline\ndevices: [{ provider: cpu }, { provider: cpu }]\nplacement:\n${placement}`;
    const placementOf = (text: string) => parseClusterConfig(config(text), file()).placement;
    expect(parseClusterConfig(ONE_DEVICE, file()).placement).toEqual({});
    expect(placementOf('  text_encoder: shard')).toEqual({ text_encoder: 'shard' });
    expect(placementOf('  text_encoder: { rank: 1 }')).toEqual({ text_encoder: { rank: 1 } });
    const text = ['  text_encoder: gpu', '  vae_decoder: { rank: 2 }', '  text_encodr: shard'].join('\n');
    expect(problemsOf(config(text))).toEqual([
      '4:17 placement.text_encoder: expected auto, coordinator, shard or { rank: N }; found "gpu"',
      `5:3 placement.vae_decoder: expected a network that the model has; found nothing at ${join(directory, 'pipeline', 'vae_decoder', 'model.onnx')}`,
      '5:24 placement.vae_decoder.rank: expected a rank of the devices listed, 0 to 1; found 2',
      '6:3 placement.text_encodr: unknown key; did you mean "text_encoder"?',
    ]);
    expect(problemsOf(config('  text_encoder: { rank: 0.5 }'))).toEqual([
      '4:17 placement.text_encoder: expected auto, coordinator, shard or { rank: N }; found {"rank":0.5}',
    ]);
  });

  it('refuses other machines without keys, and says how to make them', () => {
    const [host, transport] = problemsOf(
      'model: model.onnx\nwire: { transport: "tcp://10.0.0.7:5000" }\ndevices: [{ provider: cpu, host: gpu-box }]',
    );
    expect(transport).toMatch(
      /^2:20 wire\.transport: expected one of auto, shared-memory, ipc, tcp; found "tcp:.*addresses of their hosts/,
    );
    expect(host).toMatch(/hosts: expected join\.keys beside further hosts.*make them with "tandem keys"/);
  });

  it('lists the known keys where none is near', () => {
    const [problem] = problemsOf(`${ONE_DEVICE}zzzzzzzzzzzz: 1`);
    expect(problem).toMatch(/^3:1 zzzzzzzzzzzz: unknown key; known keys: model, tensor_parallel_size, devices, /);
  });

  it('refuses an empty file, a list and a config without devices', () => {
    expect(problemsOf('')).toEqual(['1:1: expected a mapping of keys to values; found nothing']);
    expect(problemsOf('- model')).toEqual(['1:1: expected a mapping of keys to values; found ["model"]']);
    expect(problemsOf('model: model.onnx\ndevices: []')).toEqual(['2:10 devices: expected at least 1 entry; found []']);
  });

  it('points at what is not YAML', () => {
    const [problem] = problemsOf('model: model.onnx\ndevices: [\n');
    expect(problem).toMatch(/^3:1: not valid YAML: /);
  });

  it('refuses a key that is written twice', () => {
    expect(problemsOf(`${ONE_DEVICE}model: model.onnx`)).toEqual(['3:1: not valid YAML: Map keys must be unique']);
  });

  it('names the file that is missing', async () => {
    await expect(readClusterConfig(join(directory, 'none.yaml'))).rejects.toMatchObject({
      code: 'CONFIG_MISSING',
      message: expect.stringMatching(/none\.yaml; there is no such file/),
    });
  });
});
