/** Rates measured on the machine: made, kept, used, and refused where they are not of it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { fitExchange } from '#tandem/coordinator/calibration/exchange-rates.js';
import { calibrate, readCalibration, withCalibration } from '#tandem/coordinator/calibration/index.js';
import { findDenoiserModel, parseClusterConfig, plan } from '#tandem/coordinator/index.js';
import { fitRates } from '#tandem/partition/calibrate/index.js';
import { loadMs } from '#tandem/partition/plan/cost.js';
import { LINKS, RATES } from '#tandem/partition/plan/rates.js';
import { node, writeSmallModel } from '../partition/small-model.js';
import { fileDirectory } from '../support/directory.js';

const directory = fileDirectory();
let file = '';

beforeAll(async () => {
  file = join(directory, 'rates', 'calibration.json');
});

const MODEL = {
  inputs: { x: [2, 64, 128] },
  weights: { w1: [128, 512], w2: [512, 128] },
  nodes: [
    node('MatMul', ['x', 'w1'], 'h'),
    node('Sigmoid', ['h'], 's'),
    node('Mul', ['h', 's'], 'g'),
    node('MatMul', ['g', 'w2'], 'y'),
  ],
  outputs: ['y'],
};

const cluster = (model: string, threads = 1) =>
  parseClusterConfig(
    `model: ${JSON.stringify(model)}\ncalibration: ${JSON.stringify(file)}\ndevices:\n  - { provider: cpu, threads: ${threads} }\n  - { provider: cpu, threads: ${threads} }\n`,
    join(directory, 'cluster.yaml'),
  );

const smallModel = () => writeSmallModel(directory, MODEL);

describe('what is measured on this machine', () => {
  it('is kept in a file, and then plans say that their times rest on it', async () => {
    const model = findDenoiserModel(smallModel());
    const settings = cluster(model.path);
    await calibrate({ model, dims: {}, cluster: settings });
    const found = await readCalibration(file);
    expect(found?.devices).toMatchObject([{ provider: 'cpu', device_id: 0, threads: 1, model: model.name }]);
    expect(found?.devices[0]?.measured.points.map(({ key }) => key)).toEqual(
      expect.arrayContaining(['MatMul', 'Sigmoid', 'Mul']),
    );
    expect(found?.exchanges['shared-memory']?.latencyMs).toBeGreaterThan(0);

    const { devices } = await withCalibration(settings);
    const planOf = (list: typeof devices) => plan({ model, devices: list, dims: {}, wire: 'fp32' });
    const report = await planOf(devices);
    expect(report.predicted.calibrated).toBe(true);
    expect(report.predicted.step_ms).toBeGreaterThan(found?.exchanges['shared-memory']?.stepMs ?? 0);
    expect((await planOf(settings.devices)).predicted.calibrated).toBe(false);
  });

  it('is not taken for a device with another number of threads', async () => {
    const { devices } = await withCalibration(cluster(smallModel(), 2));
    expect(devices.map(({ rates }) => rates)).toEqual([undefined, undefined]);
  });

  it('is refused with advice where it is of another machine, or broken', async () => {
    const text = await readFile(file, 'utf8');
    const content = JSON.parse(text);
    const stale = { ...content, machine: { ...content.machine, onnxruntime_version: '0.1.2' } };
    const tryWith = async (written: string) => {
      await writeFile(file, written);
      return withCalibration(cluster(smallModel()));
    };
    await expect(tryWith(JSON.stringify(stale))).rejects.toThrowError(
      expect.objectContaining({
        code: 'CALIBRATION_STALE',
        message: expect.stringMatching(/ONNX Runtime 0\.1\.2; this machine has .*Measure again with "tandem plan/),
      }),
    );
    for (const broken of ['{', '{}', JSON.stringify({ ...content, devices: [] })]) {
      await expect(tryWith(broken)).rejects.toThrowError(
        expect.objectContaining({ code: 'CALIBRATION_BROKEN', message: expect.stringContaining('delete the file') }),
      );
    }
    await writeFile(file, text);
  });

  it('is not said of another transport, which is planned for as it typically is', async () => {
    const settings = cluster(smallModel());
    const over = async (transport: 'shared-memory' | 'ipc') =>
      (await withCalibration({ ...settings, wire: { ...settings.wire, transport } })).devices[0]?.rates;
    const [memory, ipc] = [await over('shared-memory'), await over('ipc')];
    expect(ipc).toMatchObject(LINKS.ipc);
    expect(memory?.latencyMs).not.toBe(ipc?.latencyMs);
    expect(memory?.operators).toEqual(ipc?.operators);
    const none = { ...settings, calibration: join(directory, 'none.json') };
    const typical = await withCalibration({ ...none, wire: { ...none.wire, transport: 'tcp' } });
    expect(typical.devices).toMatchObject([{ link: LINKS.tcp }, { link: LINKS.tcp }]);
  });

  it('is nothing where there is no file', async () => {
    const settings = { ...cluster(smallModel()), calibration: join(directory, 'none.json') };
    expect(await withCalibration(settings)).toEqual(settings);
  });
});

/** Operators of a machine whose rates are known. */
const TRUE_RATES = { overheadMs: 0.002, flopsPerMs: 2e8, readBytesPerMs: 4e7, writeBytesPerMs: 1e7 };
const loads = [1e4, 3e5, 2e6, 5e7, 8e8].flatMap((flops, i) => [
  { flops, readBytes: 1e4 * (i + 1) ** 2, writtenBytes: 3e3 * (6 - i) ** 3 },
  { flops: flops / 7, readBytes: 9e5 / (i + 1), writtenBytes: 5e3 * (i + 1) },
]);

describe('the fit', () => {
  const points = loads.map((load) => ({
    kind: 'matmul' as const,
    key: 'MatMul',
    ...load,
    ms: loadMs(load, TRUE_RATES),
  }));

  it('finds the rates that made the times', () => {
    const { operators } = fitRates({ points, stretches: [], callMs: 0.01 }, RATES.cpu);
    for (const [name, value] of Object.entries(TRUE_RATES)) {
      expect(operators.MatMul?.[name as keyof typeof TRUE_RATES]).toBeCloseTo(value, -Math.log10(value) + 4);
    }
  });

  it('makes everything as much slower as stretches are than their operators', () => {
    const works = points.map(({ ms: _, ...work }) => work);
    const total = points.reduce((sum, { ms }) => sum + ms, 0);
    const { operators, segmentMs } = fitRates(
      { points, stretches: [{ works, ms: 1.5 * total }], callMs: 0.01 },
      RATES.cpu,
    );
    expect(operators.MatMul?.flopsPerMs).toBeCloseTo(TRUE_RATES.flopsPerMs / 1.5, -5);
    expect(segmentMs).toBe(0.01);
  });

  it('tells latency from bandwidth', () => {
    const timed = [256, 65_536, 1_048_576].map((elements) => ({
      elements,
      exchanges: 10,
      ms: 10 * (0.2 + (4 * elements) / 5e5),
      controlMs: 1.5,
    }));
    const { latencyMs, wireBytesPerMs, stepMs } = fitExchange(timed);
    expect(latencyMs).toBeCloseTo(0.2, 6);
    expect(wireBytesPerMs).toBeCloseTo(5e5, 0);
    expect(stepMs).toBe(1.5);
  });
});
