/**
 * What strangers may hand to Tandem, each as a target: how inputs are made, and what takes them. An input is good when it is taken, or
 * refused with an error that is foreseen, in less than two seconds; it is plain JSON, so that a bad one can be kept in `corpus/`.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { TandemError } from '#tandem/common/errors.js';
import { parseClusterConfig } from '#tandem/coordinator/config/index.js';
import { readModelDirectory } from '#tandem/coordinator/pipeline/index.js';
import { inspect, plan } from '#tandem/partition/index.js';
import { createTensor, DataType, encodeModel } from '#tandem/partition/onnx/index.js';
import { decodeHeader } from '#tandem/shard-worker/frames.js';
import { SealBreaker } from '#tandem/shard-worker/seal.js';
import { decodeFromWorker, decodeToWorker, encodeMessage } from '#tandem/shard-worker/wire.js';
import { pattern, rawTensor, smallModel } from '../partition/read-models.js';
import { type Directory, makeDirectory } from '../support/directory.js';
import { httpTarget } from './http-target.js';

export interface Target {
  readonly inputs: fc.Arbitrary<unknown>;
  /** @throws whatever comes of the input */
  readonly take: (input: never, scratch: string) => unknown;
}

/** Values that numbers and texts are not expected to have. */
const odd = fc.oneof(
  fc.constantFrom(
    null,
    true,
    '',
    0,
    -1,
    1e9,
    1e30,
    -1e30,
    2 ** 31,
    2 ** 53,
    0.5,
    1e-300,
    [],
    {},
    [[]],
    'NaN',
    '../..',
    '\0',
  ),
  fc.jsonValue({ maxDepth: 3 }),
  fc.integer(),
  fc.double({ noNaN: true }),
  fc.string(),
);

type Json = { [key: string]: unknown };
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null;

const pathsIn = (value: unknown, path: readonly string[] = []): readonly (readonly string[])[] =>
  isObject(value) ? [path, ...Object.entries(value).flatMap(([key, inner]) => pathsIn(inner, [...path, key]))] : [path];

/** The value with others put at some places in it. */
const changed = (value: unknown, changes: readonly (readonly [path: readonly string[], to: unknown])[]): unknown => {
  let root: unknown = structuredClone(value);
  for (const [path, given] of changes) {
    const key = path.at(-1);
    // Each its own, be it twice the same: one that is put into itself has no end.
    const to = structuredClone(given);
    if (key === undefined) root = to;
    let holder: unknown = root;
    for (const part of path.slice(0, -1)) holder = isObject(holder) ? holder[part] : undefined;
    if (key !== undefined && isObject(holder)) holder[key] = to;
  }
  return root;
};

const changesOf = (value: unknown) =>
  fc.array(fc.tuple(fc.constantFrom(...pathsIn(value)), odd), { minLength: 1, maxLength: 3 });

/** Bytes of a well-formed thing, damaged: replaced, cut off, or with others in between. */
const damaged = (whole: Uint8Array): fc.Arbitrary<string> =>
  fc
    .array(fc.tuple(fc.nat(whole.length - 1), fc.uint8Array({ maxLength: 8 }), fc.boolean()), { maxLength: 6 })
    .chain((edits) => fc.nat(whole.length).map((length) => ({ edits, length })))
    .map(({ edits, length }) => {
      let bytes = Buffer.from(whole);
      for (const [at, put, replaces] of edits)
        bytes = Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(replaces ? at + put.length : at)]);
      // Half of them are whole: what is cut off is mostly refused at once.
      return bytes.subarray(0, length % 2 === 0 ? bytes.length : length).toString('base64');
    });

const CONFIG = {
  model: 'model.onnx',
  tensor_parallel_size: 2,
  devices: [
    { provider: 'cpu', device_id: 0, threads: 1, memory_limit: '8GiB', speed: 1 },
    { provider: 'cpu', threads: 1 },
  ],
  wire: { dtype: 'fp16', transport: 'ipc' },
  quantize: 'none',
  placement: { text_encoder: 'shard', vae_decoder: { rank: 1 } },
  timeouts: { start_s: 30, load_s: 600, step_s: 600, heartbeat_s: 3 },
  workers: { keep_warm_s: 600, max_restarts: 5 },
  defaults: { num_inference_steps: 8, guidance_scale: 4, width: 64, height: 64, scheduler: 'euler' },
  server: { host: '127.0.0.1', port: 0, max_queue: 4, drain_s: 3 },
};

const yamlPieces = fc.constantFrom(
  '&a ',
  '*a',
  '<<: *a',
  '? ',
  '- ',
  ': ',
  '[',
  ']',
  '{',
  '}',
  '\n',
  '!!js ',
  '!!binary ',
  '|',
  '%YAML',
  '---\n',
  '"',
  "'",
  '\t',
);

const MODEL = resolve('models/emoji-sd');
const MODEL_FILES = [
  'model_index.json',
  'unet/config.json',
  'vae_decoder/config.json',
  'scheduler/scheduler_config.json',
  'tokenizer/tokenizer_config.json',
];
const read = (file: string): unknown => JSON.parse(readFileSync(join(MODEL, file), 'utf8'));

type ModelChange = { readonly file: string; readonly content: unknown };

const takeModel = async ({ file, content }: ModelChange, scratch: string): Promise<void> => {
  const directory = mkdtempSync(join(scratch, 'model-'));
  try {
    for (const folder of ['unet', 'vae_decoder', 'scheduler', 'tokenizer', 'text_encoder'])
      cpSync(join(MODEL, folder), join(directory, folder), {
        recursive: true,
        filter: (path) => !path.endsWith('.onnx'),
      });
    for (const folder of ['unet', 'vae_decoder', 'text_encoder'])
      symlinkSync(join(MODEL, folder, 'model.onnx'), join(directory, folder, 'model.onnx'));
    cpSync(join(MODEL, 'model_index.json'), join(directory, 'model_index.json'));
    writeFileSync(join(directory, file), typeof content === 'string' ? content : JSON.stringify(content));
    const { scheduler } = await readModelDirectory(directory);
    scheduler.create({ numInferenceSteps: 4, sequenceLength: 256 } as never);
  } finally {
    rmSync(directory, { recursive: true });
  }
};

const MESSAGES = [
  { kind: 'ping', id: 1 },
  { kind: 'attach', session: 'a', keep_warm_ms: 1000 },
  { kind: 'reset', generation: 1, peers: ['ipc:///tmp/a'], exchange_timeout_ms: 1000, after_step: 1 },
  { kind: 'pong', id: 1, progress: 3, awaiting: [1] },
] as const;

const takeFrame = (frame: string): void => {
  const bytes = Buffer.from(frame, 'base64');
  const attempts = [
    () => decodeToWorker(bytes),
    () => decodeFromWorker(bytes, 'rank 0'),
    () => decodeHeader(bytes),
    () => new SealBreaker('token').open(bytes),
  ];
  for (const attempt of attempts)
    try {
      attempt();
    } catch (error) {
      if (!(error instanceof TandemError)) throw error;
    }
};

const constant = createTensor({ name: '', dims: [16n, 20n], dataType: DataType.FLOAT, rawData: pattern(1280) });
const ONNX = encodeModel(
  smallModel([rawTensor('big', [32, 16], pattern(2048)), rawTensor('small', [16], pattern(64))], constant),
);

const takeOnnx = async (file: string, scratch: string): Promise<void> => {
  const path = join(scratch, 'model.onnx');
  writeFileSync(path, Buffer.from(file, 'base64'));
  await inspect(path, { requireWeights: true });
  const devices = [0, 1].map(() => ({ provider: 'cpu' as const, deviceId: 0 }));
  await plan({ model: { path }, devices, dims: {}, wire: 'fp32' });
};

export const TARGETS = {
  configs: {
    inputs: fc.oneof(
      changesOf(CONFIG).map((changes) => JSON.stringify(changed(CONFIG, changes)) ?? ''),
      fc
        .tuple(
          fc.array(fc.tuple(fc.nat(800), yamlPieces), { maxLength: 8 }),
          fc.constant(JSON.stringify(CONFIG, null, 1)),
        )
        .map(([edits, text]) => edits.reduce((all, [at, piece]) => all.slice(0, at) + piece + all.slice(at), text)),
      fc.string(),
    ),
    take: (text: string, scratch: string) => parseClusterConfig(text, join(scratch, 'cluster.yaml')),
  },
  'model-directories': {
    inputs: fc.constantFrom(...MODEL_FILES).chain((file) =>
      fc.oneof(
        changesOf(read(file)).map((changes) => ({ file, content: changed(read(file), changes) })),
        fc.string().map((content) => ({ file, content })),
      ),
    ),
    take: takeModel,
  },
  frames: {
    inputs: fc.oneof(
      fc.constantFrom(...MESSAGES).chain((message) => damaged(encodeMessage(structuredClone(message) as never))),
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('base64')),
      fc
        .constantFrom(...MESSAGES)
        .chain((message) =>
          changesOf(message).map((changes) => encodeMessage(changed(message, changes) as never).toString('base64')),
        ),
    ),
    take: takeFrame,
  },
  'onnx-files': { inputs: damaged(ONNX), take: takeOnnx },
  http: httpTarget,
} as const satisfies Record<string, Target>;

export type TargetName = keyof typeof TARGETS;

/** A place for a run's files. */
export const makeScratch = (): Directory => {
  const directory = makeDirectory();
  writeFileSync(join(directory.path, 'model.onnx'), '');
  return directory;
};
