/**
 * What a step copies between the host's memory and a device's, and how long it takes: with everything through the host, as ONNX Runtime
 * does by itself, and with what stays on the device. `npm run measure -- device-copies`, on WebGPU; the ranks of a plan run in turns in
 * this process, in which their exchange is a copy, so that a step's time is that of all ranks one after the other.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'vitest';
import { openSession } from '#tandem/common/onnxruntime.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { checkDevice } from '#tandem/partition/calibrate/index.js';
import { type Manifest, partition } from '#tandem/partition/index.js';
import { type BoundProgram, bindProgram, type LoadedSegment } from '#tandem/shard-worker/bound-program.js';
import { BufferPool, ownBuffer } from '#tandem/shard-worker/buffers.js';
import { keptOutputs, Uploads } from '#tandem/shard-worker/device-values.js';
import type { Lane } from '#tandem/shard-worker/link.js';
import { useSoftwareDriver } from '../devices/driver.js';

const STEPS = Number(process.env.STEPS ?? 5);
const DIMS = { batch_size: 2, height: 8, width: 8, sequence_length: 16 };
const DEVICE = { provider: 'webgpu', deviceId: 0 } as const;

/** Ranks of one process hand their tensors over by themselves. */
const lane: Lane = {
  sent: () => undefined,
  received: () => undefined,
  begin: () => undefined,
  mayRun: () => true,
  publish: () => 0,
  hasArrived: () => true,
  end: () => undefined,
};

const openRank = async (directory: string, manifest: Manifest, rank: number, keeps: boolean, uploads: Uploads) => {
  const [profile] = manifest.profiles;
  const outputs = profile?.outputs.map(({ name }) => name) ?? [];
  const segments: LoadedSegment[] = [];
  for (const entry of profile?.ranks[rank]?.segments ?? []) {
    const kept = keeps ? keptOutputs(entry, outputs, DEVICE.provider) : [];
    const session = await openSession(join(directory, entry.file), { ...DEVICE, optimization: 'all', kept });
    if (keeps)
      await uploads.prepare(
        DEVICE.provider,
        0,
        session.inputs.map(({ dtype }) => dtype),
      );
    segments.push({ session, entry, kept, copies: true });
  }
  const memory = new BufferPool(ownBuffer);
  const inputs = profile?.inputs ?? [];
  return bindProgram({ first: 0, segments, inputs, outputs, lane, memory, ...(keeps ? { uploads } : {}) });
};

/** One step of all ranks. @returns ms */
const step = async (ranks: readonly BoundProgram[]): Promise<number> => {
  const start = performance.now();
  for (const index of ranks[0]?.segments.keys() ?? []) {
    for (const { segments } of ranks) await segments[index]?.run();
    for (const { segments } of ranks) {
      const segment = segments[index];
      for (const [receive, { from, tensor }] of (segment?.entry.receives ?? []).entries()) {
        const sender = ranks[from]?.segments[index];
        const sent = sender?.sends[sender.entry.sends.findIndex((one) => one.tensor === tensor)];
        if (sent) segment?.receives[receive]?.data.set(sent.data);
      }
    }
  }
  return performance.now() - start;
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const bytesOf = (ranks: readonly BoundProgram[]): number =>
  ranks.flatMap(({ segments }) => segments).reduce((sum, { copiedBytes }) => sum + copiedBytes, 0);

const isEqual = (a: BoundProgram | undefined, b: BoundProgram | undefined): boolean =>
  Object.entries(a?.outputs ?? {}).every(
    ([name, { data }]) => Buffer.compare(data, b?.outputs[name]?.data ?? data) === 0,
  );

const measure = async (directory: string, worldSize: number) => {
  const request = {
    model: { path: 'models/emoji-sd/unet/model.onnx' },
    devices: Array.from({ length: worldSize }, () => DEVICE),
    dims: DIMS,
    wire: 'fp32' as const,
  };
  const manifest = await partition(request, directory);
  const uploads = new Uploads();
  const open = (keeps: boolean) =>
    Promise.all(manifest.ranks.map(({ rank }) => openRank(directory, manifest, rank, keeps, uploads)));
  const [before, after] = [await open(false), await open(true)];
  const inputs = randomInputs(manifest.profiles[0]?.inputs ?? [], 0);
  for (const program of [...before, ...after])
    for (const [name, { data }] of Object.entries(inputs)) program.inputs[name]?.data.set(data);
  const times = { before: [] as number[], after: [] as number[] };
  for (let turn = 0; turn <= STEPS; turn++) {
    const [a, b] = [await step(before), await step(after)];
    if (turn === 0) continue;
    times.before.push(a);
    times.after.push(b);
  }
  const [ms, keptMs] = [median(times.before), median(times.after)];
  const [bytes, keptBytes] = [bytesOf(before), bytesOf(after)];
  return {
    ranks: worldSize,
    segments: before[0]?.segments.length,
    'copied, all through the host': `${(bytes / 2 ** 10).toFixed(0)} KiB`,
    'copied, kept on the device': `${(keptBytes / 2 ** 10).toFixed(0)} KiB`,
    'ratio of bytes': (keptBytes / bytes).toFixed(2),
    'step before': `${ms.toFixed(1)} ms`,
    'step after': `${keptMs.toFixed(1)} ms`,
    'ratio of time': (keptMs / ms).toFixed(2),
    'same bits': before.every((one, rank) => isEqual(one, after[rank])),
  };
};

it('prints what a step copies, and how long it takes', async (context) => {
  useSoftwareDriver();
  const { works, error } = await checkDevice(DEVICE.provider, DEVICE.deviceId, 'float32');
  if (!works) context.skip(`WebGPU does not run here: ${error}`);
  const scratch = await mkdtemp(join(tmpdir(), 'tandem-copies-'));
  try {
    const rows: object[] = [];
    for (const worldSize of [1, 2]) rows.push(await measure(join(scratch, `${worldSize}`), worldSize));
    console.table(rows);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});
