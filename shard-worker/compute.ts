/**
 * Inside the compute thread: the rank's sessions, and the tensors that stay with the rank between segments.
 * Piscina calls the exported functions by name. ONNX Runtime blocks this thread while a segment runs; the main thread stays
 * free to answer pings.
 */
import { TandemError } from '../common/errors.js';
import { type LocalSession, ONNXRUNTIME_VERSION, openSession, type Provider } from '../common/onnxruntime.js';
import { type HostTensor, isKnownSpec } from '../common/tensor.js';
import { openPrepared } from '../partition/optimise/open.js';
import type { PreparedFor, SegmentEntry } from '../partition/write/manifest.js';
import { BufferPool, ownBuffer } from './buffers.js';
import type { Answer, FinishTask, OpenTask, RunResult, RunTask, Tensors } from './compute-protocol.js';
import { toProblem } from './problem.js';
import { checkSession } from './segment-check.js';

interface LoadedSegment {
  readonly session: LocalSession;
  readonly entry: SegmentEntry;
}

/** By their numbers in the rank's program. */
const segments = new Map<number, LoadedSegment>();
type Values = Map<string, HostTensor>;

/** By micro-batch, and then by name. */
const values = new Map<number, Values>();
const buffers = new BufferPool(ownBuffer);

/** Turns what `work` returns or throws into an answer; `code` is for errors that are not Tandem's own. */
const answer = async <T>(code: string, work: () => Promise<T>): Promise<Answer<T>> => {
  try {
    return { kind: 'done', value: await work() };
  } catch (error) {
    const problem = toProblem(error);
    return { kind: 'failed', problem: error instanceof TandemError ? problem : { ...problem, code } };
  }
};

let lastTurn: Promise<unknown> = Promise.resolve();

/** Tasks of several micro-batches may be here at once; one runs after the other, or their times would not be their own. */
const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
  const turn = lastTurn.then(work);
  lastTurn = turn.catch(() => undefined);
  return turn;
};

/** Opens a segment's graph. */
export const open = (task: OpenTask): Promise<Answer<undefined>> =>
  answer('SEGMENT_OPEN', async () => {
    await openSegment(task);
    return undefined;
  });

/** The coordinator has checked the processor as well, which takes a session. */
const checkPrepared = (prepared: PreparedFor, provider: Provider): void => {
  if (prepared.provider === provider && prepared.onnxruntime_version === ONNXRUNTIME_VERSION) return;
  throw new TandemError(
    'SHARD_PREPARED',
    `The segments were prepared for provider "${prepared.provider}" and ONNX Runtime ${prepared.onnxruntime_version}, but this is "${provider}" and ${ONNXRUNTIME_VERSION}; make the shard directory again with "tandem partition".`,
  );
};

const openSegment = async (task: OpenTask): Promise<void> => {
  const { index, path, segment: entry, provider, deviceId, threads, prepared } = task;
  if (prepared) checkPrepared(prepared, provider);
  const device = { provider, deviceId, threads };
  const session = await (prepared ? openPrepared(path, device) : openSession(path, { ...device, optimization: 'all' }));
  checkSession(session, entry);
  segments.set(index, { session, entry });
};

/** The tensors of a micro-batch. */
const valuesOf = (microBatch: number): Values => {
  const found = values.get(microBatch) ?? new Map<string, HostTensor>();
  values.set(microBatch, found);
  return found;
};

const storeCopies = (own: Values, tensors: Tensors): void => {
  for (const [name, tensor] of Object.entries(tensors)) own.set(name, buffers.copy(tensor));
};

const read = (own: Values, name: string): HostTensor => {
  const tensor = own.get(name);
  if (tensor !== undefined) return tensor;
  throw new TandemError('SEGMENT_INPUT', `Tensor "${name}" is not there; it was released too early or never made.`);
};

const release = (own: Values, names: Iterable<string>): void => {
  const freed = [...names];
  buffers.give(freed.flatMap((name) => own.get(name) ?? []));
  for (const name of freed) own.delete(name);
};

/** Runs one segment. */
export const run = (task: RunTask): Promise<Answer<RunResult>> =>
  answer('SEGMENT_RUN', () => inTurn(() => runSegment(task)));

const runSegment = async ({ segment: index, microBatch, arrived, sent }: RunTask): Promise<RunResult> => {
  const segment = segments.get(index);
  if (segment === undefined)
    throw new TandemError('SEGMENT_MISSING', `Segment ${index} was not opened; there are ${segments.size}.`);
  const own = valuesOf(microBatch);
  storeCopies(own, arrived);
  const start = performance.now();
  const feeds = Object.fromEntries(segment.entry.inputs.map((name) => [name, read(own, name)]));
  const prepared = segment.entry.outputs.map(
    (spec) => [spec.name, isKnownSpec(spec) ? buffers.tensor(spec) : null] as const,
  );
  const outputs = await segment.session.runInto(feeds, Object.fromEntries(prepared));
  const compute_ms = performance.now() - start;
  for (const [name, tensor] of Object.entries(outputs)) own.set(name, tensor);
  for (const [name, tensor] of Object.entries(sent)) tensor.data.set(read(own, name).data);
  release(own, segment.entry.release);
  return { compute_ms };
};

/** Ends a micro-batch. */
export const finish = ({ microBatch, arrived, outputs: names }: FinishTask): Promise<Answer<Tensors>> =>
  answer('SEGMENT_RUN', () =>
    inTurn(async () => {
      const own = valuesOf(microBatch);
      storeCopies(own, arrived);
      const outputs = names.map((name) => [name, read(own, name)] as const);
      // The next task may write over what is released.
      const copies = outputs.map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }] as const);
      release(own, own.keys());
      return Object.fromEntries(copies);
    }),
  );

/** Drops the tensors of a step that was abandoned. */
export const forget = (): Promise<Answer<undefined>> =>
  answer('SEGMENT_RUN', () =>
    inTurn(async () => {
      for (const own of values.values()) release(own, own.keys());
      return undefined;
    }),
  );

/** Closes all sessions. */
export const dispose = async (): Promise<void> => {
  values.clear();
  const opened = [...segments.values()];
  segments.clear();
  for (const { session } of opened) await session.dispose();
};
