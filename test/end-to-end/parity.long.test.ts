/** Real exports on real workers: what all ranks predict together is what the whole model predicts. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { findDenoiserModel } from '#tandem/coordinator/shards/model.js';
import { type VerifyReport, type VerifyRequest, verify } from '#tandem/coordinator/verify/verify.js';
import { materialise } from '../fixtures/materialise.js';
import { fileDirectory } from '../support/directory.js';

const DIRECTORY = fileDirectory();

// A busy machine shares its cores among all the ranks.
vi.setConfig({ testTimeout: 180_000 });

const SYMBOLIC = { batch_size: 2, height: 16, width: 16, sequence_length: 16 };
/** So many tokens that their attention is fused. */
const LARGE = { ...SYMBOLIC, batch_size: 1, height: 64, width: 64 };
const EVEN = { 2: [1, 1], 3: [1, 1, 1], 4: [1, 1, 1, 1] } as const;

interface Case {
  readonly name: string;
  readonly speeds: readonly number[];
  readonly wire?: 'fp32' | 'fp16';
  readonly transport?: 'auto' | 'ipc' | 'tcp';
  readonly dims?: Readonly<Record<string, number>>;
}

const materialised = new Map<string, Promise<string>>();

const modelPath = (name: string): Promise<string> => {
  const path = materialised.get(name) ?? materialise(name, join(DIRECTORY, name));
  materialised.set(name, path);
  return path;
};

const request = async ({ name, speeds, wire = 'fp32', transport = 'auto', dims }: Case): Promise<VerifyRequest> => ({
  model: findDenoiserModel(await modelPath(name)),
  dims: dims ?? (name.endsWith('-sym') ? SYMBOLIC : {}),
  devices: speeds.map((speed) => ({ provider: 'cpu', deviceId: 0, threads: 1, speed })),
  wire: { dtype: wire, transport },
  quantize: 'none',
  split: 'tensor',
  placement: {},
  loader: 'auto',
  calibration: join(DIRECTORY, 'calibration.json'),
  shards: join(DIRECTORY, 'shards'),
  timeouts: { startMs: 30_000, loadMs: 60_000, stepMs: 60_000, heartbeatMs: 10_000 },
  seed: 3,
});

const run = async (one: Case): Promise<VerifyReport> => verify(await request(one));

/** Every exporter and opset, static and with symbolic dims, every number of ranks, and unlike devices. */
const CASES: readonly Case[] = [
  { name: 'tiny-ts14', speeds: EVEN[4] },
  { name: 'tiny-ts14-sym', speeds: EVEN[2] },
  { name: 'tiny-ts17', speeds: [2, 1] },
  { name: 'tiny-ts17-sym', speeds: EVEN[3] },
  { name: 'tiny-ts17-sym', speeds: EVEN[2], dims: LARGE },
  { name: 'tiny-dynamo18', speeds: [3, 1, 2] },
  { name: 'tiny-dynamo18-sym', speeds: EVEN[4] },
  { name: 'tiny-linearproj-dynamo18', speeds: EVEN[2] },
  { name: 'tiny-oldattn-ts14', speeds: EVEN[2] },
  { name: 'tiny-5heads-ts17', speeds: EVEN[2], transport: 'tcp' },
];

describe('the workers predict what the whole model predicts, to the last bit alike', () => {
  it.each(
    CASES.map((one) => [`${one.name}${one.dims ? ' of 4,096 tokens' : ''} at speeds ${one.speeds}`, one] as const),
  )('%s', async (_, one) => {
    const report = await run(one);
    expect(report.max_rel_error).toBeLessThanOrEqual(1e-4);
    expect(report.ranks_agree).toBe(true);
    expect(report.passed).toBe(true);
    expect(report.sharded_weight_fraction).toBeGreaterThanOrEqual(0.95);
    expect(report.sharded_flop_fraction).toBeGreaterThanOrEqual(0.95);
    expect(report.psnr_db).toBeGreaterThan(80);
  });
});

it('agrees to the rounding of half precision where activations travel so', async () => {
  const report = await run({ name: 'tiny-ts17', speeds: EVEN[2], wire: 'fp16' });
  expect(report.max_rel_error).toBeLessThanOrEqual(1e-2);
  expect(report.max_rel_error, 'something is rounded').toBeGreaterThan(1e-5);
  expect(report.ranks_agree).toBe(true);
});

it('gives the same report again, from the shards that it made before', async () => {
  const one = await request({ name: 'tiny-ts17', speeds: [2, 1] });
  expect(await verify(one)).toEqual(await verify(one));
});

/** Processes that this one started, of this package. */
const ownChildren = async (): Promise<readonly number[]> => {
  const { stdout } = await promisify(execFile)('ps', ['-eo', 'pid=,ppid=,args=']);
  return stdout.split('\n').flatMap((line) => {
    const [pid, ppid, ...args] = line.trim().split(/\s+/);
    return Number(ppid) === process.pid && args.join(' ').includes('/dist/') ? [Number(pid)] : [];
  });
};

it('ends with the rank’s name and leaves no process when a worker is killed while it is verified', async () => {
  let killing: Promise<void> | undefined;
  const kill = async (): Promise<void> => {
    const [, second] = await ownChildren();
    if (second !== undefined) process.kill(second, 'SIGKILL');
  };
  const one = await request({ name: 'tiny-ts17', speeds: [2, 1] });
  const verifying = verify({
    ...one,
    rounds: 50,
    onProgress: (stage) => {
      if (stage === 'workers') killing ??= kill();
    },
  });
  const error = await verifying.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  await killing;
  if (!(error instanceof TandemError)) throw new Error(`Expected a TandemError, found ${String(error)}.`);
  expect(error.code).toBe('WORKER_DIED');
  expect(error.message).toMatch(/rank [01]/);
  await delay(100);
  expect(await ownChildren()).toEqual([]);
});
