/**
 * The shape of a cluster config, as data: what is checked, what editors show (the JSON Schema is made from this), and
 * which values stand where a key is left out. Rules that span several keys are in `rules.ts`.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { PROVIDERS, type Provider } from '../../common/onnxruntime.js';
import { QUANTIZE, WIRE_DTYPES } from '../../partition/write/manifest.js';
import { TRANSPORTS } from '../cluster/transport.js';
import { MAX_PIXELS, NETWORK_NAMES, SCHEDULER_NAMES } from '../pipeline/index.js';
import { BYTES_PATTERN } from './bytes.js';

/** Beyond these a number is a mistake, and some would overflow: timers count milliseconds in 31 bits, about 24 days. */
export const LIMITS = {
  seconds: 1_000_000,
  devices: 64,
  threads: 1024,
  deviceId: 255,
  speed: 1e6,
  steps: 1000,
  guidance: 1000,
  pixels: MAX_PIXELS,
  restarts: 1_000_000,
  queue: 100_000,
  text: 4096,
  hosts: 64,
} as const;
const MIN_SPEED = 1e-6;
const MIN_SECONDS = 0.001;

const positiveInteger = z.number().int().min(1);
const seconds = z.number().min(MIN_SECONDS).max(LIMITS.seconds);
/** Pictures are decoded from latents of an eighth of their size. */
const pixels = z.number().int().min(8).max(LIMITS.pixels).multipleOf(8);
const text = z.string().min(1).max(LIMITS.text);

/** `512x512` */
const SIZE_PATTERN = /^[1-9]\d{0,4}x[1-9]\d{0,4}$/;

const PROXY_GROUPS: readonly string[] = ['loopback', 'linklocal', 'uniquelocal'];

const isProxy = (text: string): boolean => {
  const [address = '', length, ...rest] = text.split('/');
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
  const fits = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= bits);
  return PROXY_GROUPS.includes(text) || (bits > 0 && fits && rest.length === 0);
};

const device = z.strictObject({
  provider: z
    .enum(PROVIDERS as [Provider, ...Provider[]])
    .describe('ONNX Runtime execution provider that runs this rank'),
  device_id: z
    .number()
    .int()
    .min(0)
    .max(LIMITS.deviceId)
    .default(0)
    .describe("Index among the provider's devices; a cpu needs none"),
  threads: positiveInteger
    .max(LIMITS.threads)
    .optional()
    .describe('Threads per operator. Default: the cores, shared equally by the cpu devices'),
  memory_limit: z
    .union([z.number().int().min(1), z.string().max(LIMITS.text).regex(BYTES_PATTERN)])
    .optional()
    .describe('Weights and activations that fit: "8GiB", "512MB", or a number of bytes. Default: no limit'),
  buffer_limit: z
    .union([z.number().int().min(1), z.string().max(LIMITS.text).regex(BYTES_PATTERN)])
    .optional()
    .describe(
      'Largest tensor that the device takes: "1GiB", or a number of bytes (WebGPU: maxStorageBufferBindingSize of the adapter). Larger ones are split, or refused by name. Default: webgpu 4GiB, others no limit',
    ),
  speed: z
    .number()
    .min(MIN_SPEED)
    .max(LIMITS.speed)
    .optional()
    .describe(
      'Speed relative to the other devices: twice the speed takes twice the share. Default: as calibrated, else 1',
    ),
});

/** The name of a further host: that of its key. */
const hostName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/i, 'expected letters, digits, ".", "-" and "_"')
  .refine((name) => name !== 'leader', 'expected another name than "leader"');

const furtherHost = z.strictObject({
  name: hostName.describe('The name of its key'),
  devices: z.array(device).min(1).max(LIMITS.devices).describe('Its devices, after those of the hosts before it'),
});

const join = z.strictObject({
  listen: text
    .regex(/^tcp:\/\/[^\s/]+:\d{1,5}$/, 'expected "tcp://ADDRESS:PORT"')
    .default('tcp://0.0.0.0:7070')
    .describe('Where further hosts join'),
  keys: text
    .optional()
    .describe('Directory that `tandem keys` made, relative to this config; needed with further hosts'),
  address: text
    .refine((address) => isIP(address) > 0, 'expected an IP address')
    .optional()
    .describe("This host's address as the others reach it. Default: the one that it listens at, else its first"),
});

const link = z.strictObject({
  gbit_per_s: z.number().min(0.001).max(10_000).describe('What one rank sends to another in a second'),
  latency_ms: z.number().min(0.001).max(10_000).describe('From one rank to another'),
});

const wire = z.strictObject({
  dtype: z
    .enum(WIRE_DTYPES)
    .default('fp32')
    .describe(
      'Element type of activations between workers; fp16 halves the bytes and rounds; int8 quarters them and rounds more, by rows',
    ),
  link: link
    .optional()
    .describe(
      'What the plan takes for the links between workers, instead of what is measured: the same plan then on every start, and for hosts that are not there yet',
    ),
  transport: z
    .enum(TRANSPORTS)
    .default('auto')
    .describe(
      'shared-memory: no tensor is copied; Linux only. ipc: sockets in a private directory. tcp: loopback ports. auto: shared-memory where it can be had, else ipc, on Windows tcp',
    ),
});

const ways = positiveInteger.max(LIMITS.devices).default(1);

const mesh = z.strictObject({
  tensor: ways.describe('Devices that share the tensors of each stage'),
  tokens: ways.describe(
    "Devices that share the tokens or rows of each stage's pictures, each with all of its weights; not beside tensor",
  ),
  guidance: ways.describe('Groups that each compute one of the two passes of guidance: 1 or 2'),
  pipeline: ways.describe('Stages, each with a part of the model, that pass the work on'),
  replicas: ways.describe('Groups with all of the model that make pictures side by side'),
});

const timeouts = z.strictObject({
  start_s: seconds.default(30).describe('Until every worker process has said hello'),
  load_s: seconds.default(600).describe('Until every worker has checked and loaded its shard'),
  step_s: seconds.default(600).describe('Without any progress inside a step'),
  heartbeat_s: seconds.default(3).describe('Without an answer from a worker or a host'),
  join_s: seconds.default(600).describe('Until all further hosts have joined'),
});

const workers = z.strictObject({
  keep_warm_s: z
    .number()
    .min(0)
    .max(LIMITS.seconds)
    .optional()
    .describe(
      'How long the workers of `launch` keep the loaded model when their coordinator was killed, for the next one; 0 ends them with it, else at least 10. Default: 600; 0 with transport tcp',
    ),
  max_restarts: z
    .number()
    .int()
    .min(0)
    .max(LIMITS.restarts)
    .default(5)
    .describe('How often in a row `launch` starts a lost worker again before it gives up; 0: not at all'),
});

const defaults = z.strictObject({
  num_inference_steps: positiveInteger
    .max(LIMITS.steps)
    .optional()
    .describe("Denoising steps. Default: the model family's own"),
  guidance_scale: z
    .number()
    .min(0)
    .max(LIMITS.guidance)
    .optional()
    .describe("Weight of the prompt; 1 or less runs no negative prompt. Default: the model family's own"),
  width: pixels.optional().describe("Pixels, a multiple of 8 or 16. Default: the model's own size"),
  height: pixels.optional().describe("Pixels, a multiple of 8 or 16. Default: the model's own size"),
  scheduler: z.enum(SCHEDULER_NAMES).optional().describe("Instead of the model's own scheduler class"),
});

const server = z.strictObject({
  host: text.default('127.0.0.1').describe('Address to listen on; one that other machines can reach needs an API key'),
  port: z.number().int().min(0).max(65_535).default(8080).describe('0 takes a free port'),
  api_key: text.optional().describe('Key that requests must carry, at least 16 characters. Default: none'),
  api_key_env: text.optional().describe('Environment variable with that key, in place of api_key'),
  max_running: positiveInteger
    .max(LIMITS.queue)
    .default(8)
    .describe('Pictures that are made at a time, a step of each in turn; a client of whom none is made need not wait'),
  max_queue: z
    .number()
    .int()
    .min(0)
    .max(LIMITS.queue)
    .default(16)
    .describe('Requests that may wait; more are refused with 429'),
  images: text
    .optional()
    .describe(
      "Directory of the pictures that are asked for by address, relative to this config; replicas that share it serve each other's. Default: in the user's cache",
    ),
  trust_proxy: z
    .array(z.string().refine(isProxy, 'expected an address, a range such as "10.0.0.0/8", or "loopback"'))
    .max(LIMITS.devices)
    .default([])
    .describe(
      'Proxies whose X-Forwarded-For, -Host and -Proto are believed: addresses, ranges, or "loopback", "linklocal", "uniquelocal". Default: none',
    ),
  drain_s: seconds.default(45).describe('After SIGTERM, until requests that have not finished are ended'),
});

const place = z.union([
  z.enum(['auto', 'coordinator', 'shard']),
  z.strictObject({
    rank: z.number().int().min(0).max(LIMITS.devices).describe('The device, by its place in the list of devices'),
  }),
]);

const placeOf = (name: string) =>
  place
    .optional()
    .describe(
      `Where ${name} runs. coordinator: whole, in the coordinator's own process, on the cpu. rank: whole, on one device. shard: split over all devices. auto: by memory_limit, on the device with most room or split where it fits none; coordinator where no device has a limit. Default: auto`,
    );

const placement = z.strictObject(
  Object.fromEntries(NETWORK_NAMES.map((name) => [name, placeOf(name)])) as Record<
    (typeof NETWORK_NAMES)[number],
    ReturnType<typeof placeOf>
  >,
);

export const clusterSchema = z
  .strictObject({
    model: text.describe('Diffusers-layout directory or .onnx file, relative to this config'),
    tensor_parallel_size: positiveInteger
      .optional()
      .describe('Ranks that the model is split over; when given, it must equal the number of devices'),
    devices: z
      .array(device.extend({ host: hostName.optional().describe('Further host that has it. Default: this one') }))
      .min(1)
      .max(LIMITS.devices)
      .describe('One worker each; the place in the list is the rank'),
    hosts: z
      .union([positiveInteger.max(LIMITS.hosts), z.array(furtherHost).min(1).max(LIMITS.hosts)])
      .optional()
      .describe(
        'A number: hosts in all, this one among them, each with the devices above. A list: further hosts with devices of their own. They run `tandem worker --join`. Default: this one alone',
      ),
    join: join.prefault({}).describe('How further hosts join'),
    wire: wire.prefault({}).describe('How workers exchange activations'),
    parallel: z
      .union([z.enum(['auto', 'tensor', 'batch', 'tokens']), mesh])
      .optional()
      .describe(
        'How `generate` and `launch` use the devices. auto: as the plan predicts to be best for `aim`, be it one device alone. tensor, batch, tokens: all of them, as `split` says. {tensor, tokens, guidance, pipeline, replicas}: so many for each, their product the number of devices. Default: auto, or what `split` says',
      ),
    aim: z
      .enum(['latency', 'throughput'])
      .default('latency')
      .describe(
        'What `parallel: auto` looks for. latency: the time of one picture. throughput: pictures per minute where several are asked for at once',
      ),
    split: z
      .enum(['tensor', 'batch', 'tokens'])
      .optional()
      .describe(
        'tensor: each device holds a part of the weights. batch: each holds all and computes a part of the batch, such as one half of guidance. tokens: each holds all and computes a part of the tokens or rows. Default: tensor',
      ),
    quantize: z
      .enum(QUANTIZE)
      .default('none')
      .describe(
        "int8: weights of the denoiser's linear layers and convolutions in a quarter of the bytes, faster, and rounded; cpu devices only",
      ),
    placement: placement
      .prefault({})
      .describe('Where the networks beside the denoiser run, by their folders in the model directory'),
    loader: z
      .enum(['auto', 'mmap', 'read'])
      .default('auto')
      .describe(
        'How weights come into memory. mmap: page by page as they are used, read ahead in the background. read: in one pass before the workers are ready, for network file systems. auto: read where the shards lie on one (NFS, SMB, FUSE, 9p, Ceph, Lustre, AFS), else mmap',
      ),
    load_parts: z
      .enum(['ahead', 'on-demand'])
      .default('ahead')
      .describe(
        'Text encoder and VAE under `launch`, in the coordinator or on the workers. ahead: from the start on. on-demand: for the first picture',
      ),
    shards: text
      .optional()
      .describe("Directory of prepared shards, relative to this config. Default: in the user's cache"),
    calibration: text
      .optional()
      .describe(
        "File with what `tandem plan --calibrate` measured, relative to this config. Default: in the user's cache",
      ),
    timeouts: timeouts.prefault({}).describe('Seconds after which a wait ends with an error'),
    workers: workers.prefault({}).describe('What becomes of workers that outlive their coordinator or are lost'),
    defaults: defaults.prefault({}).describe('Used by `generate` where no option is given'),
    sizes: z
      .array(z.string().regex(SIZE_PATTERN, 'expected a size such as "512x512"'))
      .default([])
      .describe('Sizes of pictures that `launch` prepares ahead; any other is prepared when it is first asked for'),
    resident_sizes: z
      .number()
      .int()
      .min(0)
      .max(16)
      .default(1)
      .describe(
        'Sizes beside the default one that `launch` keeps loaded, each with weights and workers of its own; the one that was not used for longest goes first. 0: the default size only',
      ),
    server: server.prefault({}).describe('How `launch` listens'),
  })
  .describe('A Tandem cluster: one model and the devices that run it together');

export type ClusterInput = z.input<typeof clusterSchema>;
export type ClusterParsed = z.output<typeof clusterSchema>;
