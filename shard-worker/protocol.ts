/**
 * The messages between the coordinator and a shard worker, over ROUTER (coordinator) and DEALER (worker), each one
 * msgpack frame. Messages are data of fixed types, checked on arrival by both sides, never code.
 *
 *     worker       hello ->            <- load        coordinator
 *                  progress* ->
 *                  loaded ->           <- step
 *                  step_done ->        ...
 *                                      <- shutdown
 *                  bye ->
 *     either side  pong ->             <- ping        at any time, also while a segment runs
 *
 * When a rank is lost, the others keep what they have loaded and are given the new rank's address:
 *
 *                                      <- reset       ends the step under way, if there is one
 *                  reset_done ->       <- step
 *
 * A worker that may outlive its coordinator is found again by the next one:
 *
 *                                      <- knock       repeated until it is answered
 *                  challenge ->        <- attach
 *                  hello ->            <- reset
 *                  reset_done ->       <- step
 *
 * Every order to such a worker but `knock` is sealed, as `seal.ts` has it.
 */
import { z } from 'zod';
import { DTYPES, type DType, type HostTensor } from '../common/tensor.js';
import { ACTIVITIES, type TraceEvent } from './recorder.js';

export const PROTOCOL_VERSION = 5;

/**
 * Environment variable with the routing id under which a worker speaks to its coordinator (its rank where unset). The
 * coordinator makes it unguessable, so that no other local process can speak for a worker over `tcp://`.
 */
export const WORKER_ID_VARIABLE = 'TANDEM_WORKER_ID';

/** Environment variable with the token of a detached worker's directory, by which it sees that the directory is still that one. */
export const WORKER_TOKEN_VARIABLE = 'TANDEM_WORKER_TOKEN';

/** In the directory of workers that may outlive their coordinator: what a coordinator must know to command them. */
export const TOKEN_FILE = 'token';

const dtype = z.enum(Object.keys(DTYPES) as [DType, ...DType[]]);
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');
const tensor: z.ZodType<HostTensor> = z.object({ dtype, shape: z.array(z.number().int().nonnegative()), data: bytes });
const tensors = z.record(z.string(), tensor);
const problem = z.object({ code: z.string(), message: z.string(), problems: z.array(z.string()).readonly() });

/**
 * A rank's memory, in bytes. `private_bytes` leaves out pages that are shared with other processes or backed by a file;
 * `mapped_bytes` are the most of those that came in since the process began: its mapped weights, which are given up first where
 * memory runs short. On systems that do not tell them apart the weights are among the private ones.
 */
const memory = z.object({ private_bytes: z.number(), peak_private_bytes: z.number(), mapped_bytes: z.number() });

/** Times of one step on one rank, in ms. `exchange_ms` is the time spent waiting for or moving activations. */
const stepTimes = z.object({
  total_ms: z.number(),
  compute_ms: z.number(),
  exchange_ms: z.number(),
  sent_bytes: z.number(),
  /** Between the host's memory and the device's, both ways. */
  copied_bytes: z.number(),
});

const count = z.number().int().nonnegative();
/** Timers count in 31 bits; a longer time would be over at once. */
const milliseconds = z
  .number()
  .int()
  .positive()
  .max(2 ** 31 - 1);

const traceEvent: z.ZodType<TraceEvent> = z.object({
  activity: z.enum(ACTIVITIES),
  lane: count.exactOptional(),
  segment: count.exactOptional(),
  start: z.number(),
  duration: z.number(),
});

const provider = z.enum(['cpu', 'cuda', 'webgpu', 'dml', 'coreml']);
/** A network as a worker has it: what tells it from any other. */
const loadedNetwork = z.object({
  name: z.string(),
  /** `manifestDigest` of the shard directory's manifest as it was when the worker read it. */
  manifest_sha256: z.string(),
  profile: z.string(),
});

/** What a worker has loaded. */
const loadedShard = z.object({
  /** Those that this rank has a part in. */
  networks: z.array(loadedNetwork),
  /** Of all its networks, also of those that are opened for their first step only. */
  weight_bytes: z.number(),
  load_ms: z.number(),
  /** Steps finished since the worker was started. */
  steps: count,
  memory,
});

/** A network that some or all of the workers run: the denoiser, or another one of its pipeline. */
const network = z.object({
  /** Steps ask for it by this name. */
  name: z.string().min(1),
  /** Absolute path of the shard directory. */
  shard_directory: z.string(),
  /** Name of the profile in the manifest. */
  profile: z.string(),
  /** Ranks of the workers that run it; the place in the list is the rank in the shard directory. */
  members: z.array(count).min(1),
  /** Opened for its first step instead of before `loaded`. */
  on_demand: z.boolean().optional(),
});

export const toWorker = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('load'),
    /** The same list for all workers, also where a worker has no part in some. */
    networks: z.array(network).min(1),
    provider,
    device_id: z.number().int().nonnegative(),
    threads: z.number().int().positive(),
    /** Who brings the weights' pages in, as `loader.ts` has it; `auto` where absent. */
    loader: z.enum(['auto', 'mmap', 'read']).optional(),
    /** Where each rank's exchange socket listens; index is the rank. */
    peers: z.array(z.string()),
    /** Where each rank's shared memory is, if they exchange through that instead; index is the rank. */
    memories: z.array(z.string()).optional(),
    /** By which key each rank's exchange socket is known, where they are ports; index is the rank. */
    peer_keys: z.array(z.string()).optional(),
    /** How long a rank waits for a peer's tensors before it reports that the peer is stuck. */
    exchange_timeout_ms: milliseconds,
    /** Tensors of this step and earlier ones are leftovers of an abandoned step, and are dropped. 0 where absent. */
    after_step: count.optional(),
  }),
  z.object({
    kind: z.literal('reset'),
    /** Rises with every change of the group; comes back in `reset_done`. */
    generation: count,
    /** As in `load`. */
    peers: z.array(z.string()),
    memories: z.array(z.string()).optional(),
    peer_keys: z.array(z.string()).optional(),
    exchange_timeout_ms: milliseconds,
    after_step: count,
  }),
  z.object({
    kind: z.literal('knock'),
    /** Made up by the coordinator; comes back in `challenge`. */
    session: z.string(),
  }),
  z.object({
    kind: z.literal('attach'),
    /** As in `knock`; comes back in `hello`. */
    session: z.string(),
    /** How long to wait for a coordinator when this one is gone. */
    keep_warm_ms: count,
  }),
  z.object({
    kind: z.literal('step'),
    id: z.number().int(),
    /** Which network; only its members are told. */
    network: z.string(),
    /** Inputs by name, of each run that is to be under way at once. */
    micro_batches: z.array(tensors).min(1),
    /** Whether to send the outputs back (one rank suffices) or only their digest. */
    want_outputs: z.boolean(),
    /** Whether to tell what went on when. */
    trace: z.boolean().optional(),
  }),
  z.object({ kind: z.literal('ping'), id: z.number().int() }),
  z.object({ kind: z.literal('shutdown') }),
]);

export const fromWorker = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('hello'),
    rank: z.number().int(),
    pid: z.number().int(),
    protocol_version: z.number().int(),
    /** Where the exchange socket listens, with the port that the system chose. */
    exchange_endpoint: z.string(),
    /** Its public key there, where that is a port. */
    exchange_key: z.string().optional(),
    /** What the coordinator's seal must answer; a worker that ends with its coordinator has none. */
    challenge: z.string().optional(),
    /** Where its shared memory is, if it was started with some. */
    exchange_memory: z.string().optional(),
    /** The rest is there in answer to `attach`. */
    session: z.string().optional(),
    /** Absent while nothing is loaded. */
    loaded: loadedShard.optional(),
    /** Id of the last step that the worker was given. */
    last_step: count.optional(),
  }),
  z.object({ kind: z.literal('challenge'), session: z.string(), challenge: z.string() }),
  z.object({ kind: z.literal('reset_done'), generation: count, memory }),
  z.object({
    kind: z.literal('progress'),
    phase: z.enum(['check', 'load']),
    done: z.number(),
    total: z.number(),
  }),
  z.object({ kind: z.literal('loaded'), load_ms: z.number(), weight_bytes: z.number(), memory }),
  z.object({
    kind: z.literal('step_done'),
    id: z.number().int(),
    /** Index is the micro-batch. */
    outputs: z.array(tensors).optional(),
    /** sha256 of all outputs' bytes, in the manifest's order: equal on all ranks, or the ranks have drifted apart. */
    outputs_sha256: z.string(),
    times: stepTimes,
    /** Where asked for. */
    trace: z.array(traceEvent).optional(),
    memory,
  }),
  z.object({
    kind: z.literal('pong'),
    id: z.number().int(),
    /** Counts opened and finished segments and checked megabytes since start: rises while a load or a step makes progress. */
    progress: z.number().int(),
    /** Ranks whose tensors this rank waits for. */
    awaiting: z.array(z.number().int()),
  }),
  z.object({ kind: z.literal('failed'), error: problem }),
  z.object({ kind: z.literal('bye') }),
]);

export type { Problem } from '../common/answer.js';
export type ToWorker = z.infer<typeof toWorker>;
export type FromWorker = z.infer<typeof fromWorker>;
export type Memory = z.infer<typeof memory>;
export type LoadedShard = z.infer<typeof loadedShard>;
export type LoadedNetwork = z.infer<typeof loadedNetwork>;
export type NetworkOrder = z.infer<typeof network>;
export type StepTimes = z.infer<typeof stepTimes>;
