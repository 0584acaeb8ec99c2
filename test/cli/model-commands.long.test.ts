import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeScratch, SHIPPED_DIMS, tandem } from './tandem.js';

const scratch = makeScratch();
afterAll(scratch.remove);

const MODEL = ['models/emoji-sd', '--tensor-parallel-size', '2'];
const run = (...args: string[]) => tandem(args, scratch.path);

describe('tandem plan', () => {
  it('prints its JSON alone on standard output', async () => {
    const { status, stdout } = await run('plan', ...MODEL, ...SHIPPED_DIMS, '--json');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      world_size: 2,
      ranks: [{ rank: 0 }, { rank: 1 }],
      predicted: { speedup: expect.any(Number) },
    });
    expect(Object.keys(report)).toEqual(
      expect.arrayContaining([
        'sharded_weight_fraction',
        'sharded_flop_fraction',
        'segments',
        'collectives',
        'collective_count',
        'wire_bytes_per_step',
        'replicated',
        'blocks',
        'alternatives',
        'recommendation',
        'networks',
      ]),
    );
    expect(report.collectives).toHaveLength(report.collective_count);
    expect(report.alternatives.map(({ name }: { name: string }) => name)).toEqual([
      'tensor-parallel',
      'single-device',
      'guidance-batch',
    ]);
  });

  it('takes a config or a model directory as it is: the default picture decides the sizes, and --dim any of them', async () => {
    const config = await run('plan', resolve('configs/dual-cpu.yaml'));
    expect(config.stderr).toMatch(/picture of 64x64: batch_size=2 height=16 width=16 sequence_length=\d+/);
    expect(config.stdout).toMatch(/split over 2 ranks/);
    const directory = await run('plan', ...MODEL, '--dim', 'batch_size=1');
    expect(directory.stderr).toMatch(/batch_size=1 height=16 width=16/);
    const both = await run('plan', resolve('configs/dual-cpu.yaml'), '--config', 'configs/single-cpu.yaml');
    expect(both).toMatchObject({ status: 2, stderr: expect.stringMatching(/Expected a model beside --config/) });
  });

  it('draws the plan as a page beside its tables, and says which times are guesses', async () => {
    const page = join(scratch.path, 'plan.html');
    const { status, stdout } = await run('plan', ...MODEL, ...SHIPPED_DIMS, '--html', page);
    expect(status).toBe(0);
    expect(stdout).toMatch(/typical rates: measure this machine with `tandem plan MODEL --calibrate`/);
    expect(stdout).toMatch(/split the tensors \(this plan\)[\s\S]*do not split[\s\S]*split the guidance batch/);
    expect(readFileSync(page, 'utf8')).toContain('<h1>emoji-sd on 2 devices</h1>');
  });

  it('prints tables for people, and where the other networks run, and why', async () => {
    const { stdout } = await run('plan', 'models/emoji-sd', '--config', 'configs/dual-cpu.yaml', ...SHIPPED_DIMS);
    expect(stdout).toMatch(/of the weights and .* of the work are split over 2 ranks/);
    expect(stdout).toMatch(/rank +device +weights +activations +work/);
    expect(stdout).toMatch(/text_encoder +coordinator +.*iB +no device has a memory_limit/);
  });

  it('tells of each other network its place, the reason and what ranks hold of it', async () => {
    const config = join(scratch.path, 'placed.yaml');
    const device = '{ provider: cpu, memory_limit: 1GiB }';
    const placement = 'placement: { text_encoder: shard }';
    writeFileSync(config, `model: ${resolve('models/emoji-sd')}\ndevices: [${device}, ${device}]\n${placement}\n`);
    const { stdout } = await run('plan', 'models/emoji-sd', '--config', config, ...SHIPPED_DIMS, '--json');
    const { networks } = JSON.parse(stdout);
    expect(networks).toMatchObject([
      { name: 'text_encoder', placement: 'shard', reason: 'the config says so', ranks: [{ rank: 0 }, { rank: 1 }] },
      { name: 'vae_decoder', placement: 'rank', reason: expect.stringMatching(/^most room: /), ranks: [{}] },
    ]);
    const [encoder, decoder] = networks;
    expect(encoder.ranks[0].weight_bytes).toBeLessThan(0.75 * encoder.weight_bytes);
    expect(decoder.ranks[0].weight_bytes).toBe(decoder.weight_bytes);
  });

  it('lists every symbolic dim of a single file that is left open, and one that the model does not have', async () => {
    const file = ['models/emoji-sd/unet/model.onnx', '--tensor-parallel-size', '2'];
    const { status, stderr } = await run('plan', ...file, '--dim', 'height=32', '--dim', 'widht=32');
    expect(status).toBe(1);
    expect(stderr).toMatch(/ {2}batch_size \(sample, axis 0; .*\): add --dim batch_size=SIZE/);
    expect(stderr).toMatch(/ {2}width \(sample, axis 3\): add --dim width=SIZE/);
    expect(stderr).toMatch(/ {2}sequence_length \(/);
    expect(stderr).toMatch(/ {2}widht: no such dim; did you mean "width"\?/);
    expect(stderr).not.toMatch(/ {2}height \(/);
  });
});

describe('tandem partition', () => {
  it('writes a shard directory with a manifest', async () => {
    const out = join(scratch.path, 'shards');
    const { status, stdout } = await run('partition', ...MODEL, ...SHIPPED_DIMS, '--out', out, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ directory: out, world_size: 2, ranks: [{ rank: 0 }, { rank: 1 }] });
    expect(JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8'))).toMatchObject({ world_size: 2 });
    expect(existsSync(join(out, 'rank-1'))).toBe(true);
  });
});

describe('tandem partition of a config', () => {
  const prepare = (...more: string[]) => run('partition', 'configs/dual-cpu.yaml', ...more);

  it('makes what generate looks for, once', async () => {
    const { status, stdout } = await prepare('--json');
    expect(status).toBe(0);
    const { directory } = JSON.parse(stdout);
    expect((await prepare()).stderr).toContain(`Reusing the shards in ${directory}.`);
    const out = ['--out', join(scratch.path, 'ahead.png'), '--num-inference-steps', '1', '--json'];
    const made = await run('generate', '--config', 'configs/dual-cpu.yaml', '--prompt', 'a red apple', ...out);
    expect(JSON.parse(made.stdout)).toMatchObject({ timings: { partition_ms: 0 } });
  });

  it('refuses options that it would have to ignore', async () => {
    const refused = [['--no-prepare'], ['--provider', 'cpu'], ['--tensor-parallel-size', '3']];
    for (const options of refused) expect((await prepare(...options)).status, options.join(' ')).not.toBe(0);
  });
});

describe('tandem plan and tandem partition with int8 weights', () => {
  it('agree on what a rank holds, a fraction of float32', async () => {
    const options = [...MODEL, ...SHIPPED_DIMS, '--json'];
    const out = join(scratch.path, 'int8');
    const [exact, planned, written] = await Promise.all([
      run('plan', ...options),
      run('plan', ...options, '--quantize', 'int8'),
      run('partition', ...options, '--quantize', 'int8', '--out', out),
    ]);
    const bytes = ({ stdout }: { stdout: string }) =>
      JSON.parse(stdout).ranks.map((rank: { weight_bytes: number }) => rank.weight_bytes);
    expect(JSON.parse(written.stdout).quantize).toBe('int8');
    // Equal weights under several names are written once, which a plan cannot know.
    expect(bytes(written)[0] / bytes(planned)[0]).toBeCloseTo(1, 1);
    expect(bytes(planned)[0]).toBeLessThan(0.6 * bytes(exact)[0]);
  });
});

describe('tandem verify', () => {
  it('passes on the shipped model with two workers', async () => {
    const { status, stdout } = await run('verify', ...MODEL, '--threads', '1', ...SHIPPED_DIMS, '--json');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ passed: true, ranks_agree: true, world_size: 2 });
    expect(report.max_rel_error).toBeLessThanOrEqual(1e-4);
    expect(report.psnr_db).toBeGreaterThan(80);
    expect(report.sharded_weight_fraction).toBeGreaterThan(0.9);
    expect(report.max_abs_error).toBeGreaterThan(0);
  });

  it('reports the split that it verified: of the batch, where that is asked for', async () => {
    const args = ['--threads', '1', ...SHIPPED_DIMS, '--split', 'batch', '--json'];
    const [verified, planned] = [await run('verify', ...MODEL, ...args), await run('plan', ...MODEL, ...args)];
    const { ranks, segments, collective_count, wire_bytes_per_step, sharded_weight_fraction } = JSON.parse(
      planned.stdout,
    );
    const report = JSON.parse(verified.stdout);
    expect(report).toMatchObject({ ranks, segments, collective_count, wire_bytes_per_step, sharded_weight_fraction });
    expect(report).toMatchObject({ passed: true, sharded_weight_fraction: 0 });
  });

  it('holds int8 weights to their PSNR', async () => {
    const args = ['--threads', '1', ...SHIPPED_DIMS, '--quantize', 'int8'];
    const { status, stdout } = await run('verify', ...MODEL, ...args);
    expect(stdout).toMatch(/ {2}PSNR +\d\d\.\d dB {2}\(at least 30 dB, since weights are int8\)/);
    expect(stdout).toMatch(/^PASSED\n {2}max \|a-b\| \/ max \|b\| +\d\.\d+e-\d+\n/);
    expect(status).toBe(0);
    const { stdout: fails, status: failed } = await run('verify', ...MODEL, ...args, '--tolerance', '1e-4', '--json');
    expect(JSON.parse(fails)).toMatchObject({ passed: false, tolerance: 1e-4, min_psnr_db: null, quantize: 'int8' });
    expect(failed).toBe(1);
  });

  it('fails with status 1 above the tolerance, and still says by how much', async () => {
    const args = ['--threads', '1', ...SHIPPED_DIMS, '--tolerance', '0'];
    const { status, stdout, stderr } = await run('verify', ...MODEL, ...args);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^FAILED\n {2}max \|a-b\| \/ max \|b\| +\d\.\d+e-\d+/);
    expect(stderr).toMatch(/Reusing the shards in /);
  });

  it('says what would make a provider work that this machine lacks', async () => {
    const lacking = process.platform === 'win32' ? 'coreml' : 'dml';
    const { status, stderr } = await run('verify', ...MODEL, '--provider', lacking, ...SHIPPED_DIMS);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: Provider "\w+" cannot run on this machine: .*only/m);
  });
});

interface TraceBar {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args?: { readonly name?: string };
}

/** A line for every rank and coordinator, and in it what they did, within the steps that the coordinator saw. */
const expectTrace = (file: string): void => {
  const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as { readonly traceEvents: readonly TraceBar[] };
  const lines = new Map(traceEvents.filter(({ ph }) => ph === 'M').map(({ pid, args }) => [args?.name, pid]));
  const barsOf = (name: string): readonly TraceBar[] =>
    traceEvents.filter(({ ph, pid }) => ph === 'X' && pid === lines.get(name));
  expect([...lines.keys()]).toEqual(
    expect.arrayContaining([
      'tensor-parallel-1 rank 0',
      'tensor-parallel-2 coordinator',
      'tensor-parallel-2 rank 0',
      'tensor-parallel-2 rank 1',
    ]),
  );
  const steps = barsOf('tensor-parallel-2 coordinator');
  for (const rank of [0, 1]) {
    const bars = barsOf(`tensor-parallel-2 rank ${rank}`);
    expect(bars.map(({ name }) => name.split(' ')[0])).toEqual(
      expect.arrayContaining(['inputs', 'segment', 'send', 'receive', 'outputs']),
    );
    const isWithin = ({ ts, dur }: TraceBar): boolean =>
      steps.some((step) => step.ts <= ts && ts + dur <= step.ts + step.dur);
    expect(bars.filter((bar) => !isWithin(bar))).toEqual([]);
  }
};

describe('tandem bench', () => {
  it('measures one worker, two, and plain ONNX Runtime in turns', async () => {
    const args = ['--tensor-parallel-size', '1,2', '--provider', 'cpu', '--threads', '1', '--steps', '2'];
    const chart = join(scratch.path, 'steps.svg');
    const trace = join(scratch.path, 'trace.json');
    const { status, stdout } = await run(
      'bench',
      'models/emoji-sd',
      ...args,
      ...SHIPPED_DIMS,
      '--json',
      '--chart',
      chart,
      '--trace',
      trace,
    );
    expect(status).toBe(0);
    expectTrace(trace);
    const { runs, plain, speedup, verdict, conditions } = JSON.parse(stdout);
    expect(verdict).toMatch(
      /^tensor-parallel-2 (is|takes) .* tensor-parallel-1: a step takes .* ms .* against .* ms .*, as a worker computes .*; its largest worker takes .* of memory against .*\.$/,
    );
    expect(conditions).toMatchObject({
      date: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      machine: { cores: expect.any(Number), processor: expect.any(String) },
      versions: { node: process.versions.node },
    });
    const svg = readFileSync(chart, 'utf8');
    for (const shown of ['tensor-parallel-1', 'tensor-parallel-2', 'plain', 'exchange', process.versions.node])
      expect(svg).toContain(shown);
    const figures = {
      load_ms: expect.any(Number),
      step_ms: { p50: expect.any(Number), p99: expect.any(Number), mean: expect.any(Number), samples: 2 },
      exchange_ms_per_step: expect.any(Number),
    };
    expect(runs).toMatchObject([
      { ...figures, name: 'tensor-parallel-1', world_size: 1, wire_bytes_per_step: 0, workers: [{ rank: 0 }] },
      { ...figures, name: 'tensor-parallel-2', world_size: 2, workers: [{ rank: 0 }, { rank: 1 }] },
    ]);
    expect(plain).toMatchObject({ ...figures, name: 'plain', threads: 2, predicted: null });
    for (const { predicted } of runs)
      expect(predicted).toMatchObject({ step_ms: expect.any(Number), calibrated: false });
    expect(runs[1].wire_bytes_per_step).toBeGreaterThan(0);
    expect(runs[1].workers[0].weight_bytes).toBeLessThan(0.6 * runs[0].workers[0].weight_bytes);
    for (const value of Object.values(speedup)) expect(value).toBeGreaterThan(0);
  });
});
