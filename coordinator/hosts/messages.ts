/**
 * The messages between the leader and a further host, over one CURVE link, each one msgpack frame:
 *
 *     host         join ->             <- welcome, or refused       leader
 *                                      <- start
 *                  want* ->            <- piece*                    files of the ranks that it is given
 *                  started ->
 *                  from_worker ->      <- to_worker                 what workers and the cluster say to each other
 *                  exited ->           <- kill
 *                  pong ->             <- ping                      at any time
 *                  measured ->         <- measure, probe_for        how fast links are
 *                  leave ->            <- bye
 */
import { Packr } from 'msgpackr';
import { z } from 'zod';

/** Rises with every change of these messages. */
export const JOIN_PROTOCOL = 1;

/** Files cross in pieces of at most this size, so that pings pass between them on a slow link. */
export const FILE_PIECE_BYTES = 256 << 10;

const bytes = z.custom<Buffer>((value) => value instanceof Uint8Array, 'expected bytes');
const name = z.string().min(1).max(64);
const id = z.string().min(1).max(128);
const count = z.number().int().nonnegative();

/** What every version can read of every other's first message. */
export const firstMessage = z.object({ kind: z.literal('join'), protocol: z.number() });

const join = z.object({
  kind: z.literal('join'),
  protocol: z.number(),
  versions: z.object({ tandem: z.string(), workers: z.number(), onnxruntime: z.string(), arch: z.string() }),
  name,
  key: z.string().length(40),
  /** Shows that the sender has that key's secret. */
  proof: z.string(),
  /** Of this process; a host that comes back is known by it. */
  instance: id,
  index: count.optional(),
  /** The only model that it serves. */
  model: z.string().optional(),
  /** How ONNX Runtime lays out weights on its processor. */
  layout: z.string(),
  cores: z.number().int().positive(),
  shares_memory: z.boolean(),
  /** Where links to it are measured, and the key there. */
  probe: z.object({ endpoint: z.string(), key: z.string().length(40) }),
});

export type Join = z.infer<typeof join>;

export const fromHost = z.discriminatedUnion('kind', [
  join,
  z.object({ kind: z.literal('pong'), stopped: z.array(id) }),
  z.object({ kind: z.literal('want'), id, network: z.string(), path: z.string(), offset: count }),
  z.object({
    kind: z.literal('started'),
    id,
    pid: count,
    /** Where each network's shards lie there. */
    directories: z.record(z.string(), z.string()),
    kept: z.boolean(),
  }),
  z.object({ kind: z.literal('not_started'), id, problem: z.string() }),
  z.object({ kind: z.literal('from_worker'), id, frame: bytes }),
  z.object({
    kind: z.literal('exited'),
    id,
    code: z.number().nullable(),
    signal: z.string().nullable(),
    stderr: z.array(z.string()),
  }),
  z.object({
    kind: z.literal('measured'),
    to: z.string(),
    bytes_per_ms: z.number().nonnegative(),
    latency_ms: z.number().nonnegative(),
  }),
  z.object({ kind: z.literal('leave') }),
]);

export const toHost = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('welcome'), name }),
  z.object({ kind: z.literal('refused'), code: z.string(), message: z.string() }),
  z.object({ kind: z.literal('ping') }),
  z.object({
    kind: z.literal('start'),
    id,
    rank: count,
    identity: z.string(),
    networks: z.array(
      z.object({ name: z.string(), directory: z.string(), manifest_sha256: z.string().length(64), place: count }),
    ),
    shares_memory: z.boolean(),
    keep_warm_ms: count,
  }),
  z.object({ kind: z.literal('piece'), id, network: z.string(), path: z.string(), offset: count, data: bytes }),
  z.object({ kind: z.literal('to_worker'), id, frame: bytes }),
  z.object({ kind: z.literal('kill'), id, signal: z.enum(['SIGTERM', 'SIGKILL']) }),
  z.object({ kind: z.literal('probe_for'), keys: z.array(z.string().length(40)) }),
  z.object({ kind: z.literal('measure'), to: z.string(), endpoint: z.string(), key: z.string().length(40) }),
  z.object({ kind: z.literal('bye') }),
]);

export type FromHost = z.infer<typeof fromHost>;
export type ToHost = z.infer<typeof toHost>;
export type StartOrder = Extract<ToHost, { kind: 'start' }>;

const packr = new Packr({ useRecords: false, moreTypes: false });

export const encode = (message: FromHost | ToHost): Buffer => packr.pack(message);

/** A message, or undefined where the frame is none. */
export const decode = <T>(schema: z.ZodType<T>, frame: Uint8Array): T | undefined => {
  try {
    return schema.safeParse(packr.unpack(frame)).data;
  } catch {
    return undefined;
  }
};
