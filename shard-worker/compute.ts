/**
 * Inside the compute thread: the rank's sessions, and the tensors that stay with the rank between segments.
 * Piscina calls the exported functions by name, one at a time. ONNX Runtime blocks this thread while a segment runs;
 * the main thread stays free to answer pings.
 */
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { TandemError } from '../partition/errors.js';
import type { PreparedFor, SegmentEntry } from '../partition/manifest.js';
import {
  ONNXRUNTIME_VERSION,
  openSession,
  type Provider,
  type Session,
  type TensorMetadata,
} from '../partition/onnxruntime.js';
import { openPrepared } from '../partition/prepare/open.js';
import type { HostTensor, TensorSpec } from '../partition/tensor.js';
import {
  type Answer,
  buffersOf,
  copyOf,
  type FinishTask,
  type OpenTask,
  ownBuffer,
  type RunResult,
  type RunTask,
  type Tensors,
} from './compute-protocol.js';
import { toProblem } from './problem.js';

interface LoadedSegment {
  readonly session: Session;
  readonly entry: SegmentEntry;
  readonly released: ReadonlySet<string>;
  readonly sent: readonly string[];
}

const segments: LoadedSegment[] = [];
const values = new Map<string, HostTensor>();

/** Hands a result to the main thread together with its tensors' buffers. */
const handOver = <T>(value: T, tensors: Tensors): Answer<T> => {
  const answer: Answer<T> = { kind: 'done', value };
  return move({ [transferableSymbol]: buffersOf(tensors), [valueSymbol]: answer } as never) as unknown as Answer<T>;
};

/** Turns what `work` throws into an answer; `code` is for errors that are not Tandem's own. */
const answer = async <T>(code: string, work: () => Promise<Answer<T>>): Promise<Answer<T>> => {
  try {
    return await work();
  } catch (error) {
    const problem = toProblem(error);
    return { kind: 'failed', problem: error instanceof TandemError ? problem : { ...problem, code } };
  }
};

const differs = (expected: TensorSpec, found: TensorMetadata): boolean =>
  found.dtype !== expected.dtype ||
  found.shape.length !== expected.shape.length ||
  found.shape.some((size, axis) => typeof size === 'number' && size !== expected.shape[axis]);

const outputProblem = (session: Session, expected: TensorSpec): string | undefined => {
  const found = session.outputs.find((output) => output.name === expected.name);
  if (found === undefined) return `output "${expected.name}" is missing`;
  if (!differs(expected, found)) return undefined;
  return `output "${expected.name}" is ${found.dtype} [${found.shape.join(', ')}], expected ${expected.dtype} [${expected.shape.join(', ')}]`;
};

const checkSession = (session: Session, entry: SegmentEntry): void => {
  const given = new Set(entry.inputs);
  const inputs = session.inputs
    .filter((input) => !given.has(input.name))
    .map((input) => `input "${input.name}" is not provided`);
  const problems = [...inputs, ...entry.outputs.flatMap((output) => outputProblem(session, output) ?? [])];
  if (problems.length === 0) return;
  throw new TandemError(
    'SEGMENT_MISMATCH',
    `Graph "${entry.file}" is not the one that the manifest describes: ${problems.join('; ')}.`,
  );
};

/** Opens a segment's graph; segments are opened in order. */
export const open = (task: OpenTask): Promise<Answer<undefined>> =>
  answer('SEGMENT_OPEN', async () => {
    await openSegment(task);
    return { kind: 'done', value: undefined };
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
  const { path, segment: entry, provider, deviceId, threads, prepared } = task;
  if (prepared) checkPrepared(prepared, provider);
  const device = { provider, deviceId, threads };
  const session = await (prepared ? openPrepared(path, device) : openSession(path, { ...device, optimization: 'all' }));
  checkSession(session, entry);
  segments.push({ session, entry, released: new Set(entry.release), sent: entry.sends.map((send) => send.tensor) });
};

const store = (tensors: Tensors): void => {
  for (const [name, tensor] of Object.entries(tensors)) values.set(name, tensor);
};

const take = (name: string): HostTensor => {
  const tensor = values.get(name);
  if (tensor !== undefined) return tensor;
  throw new TandemError('SEGMENT_INPUT', `Tensor "${name}" is not there; it was released too early or never made.`);
};

/** What is sent and also read later (a rank's own part of a sum) must be copied: a buffer lives in one thread only. */
const takeSent = (segment: LoadedSegment): Tensors =>
  Object.fromEntries(
    segment.sent.map((name) => [name, segment.released.has(name) ? ownBuffer(take(name)) : copyOf(take(name))]),
  );

/** Runs one segment. */
export const run = (task: RunTask): Promise<Answer<RunResult>> => answer('SEGMENT_RUN', () => runSegment(task));

const runSegment = async ({ segment: index, arrived }: RunTask): Promise<Answer<RunResult>> => {
  const segment = segments[index];
  if (segment === undefined)
    throw new TandemError('SEGMENT_MISSING', `Segment ${index} was not opened; there are ${segments.length}.`);
  store(arrived);
  const start = performance.now();
  const feeds = Object.fromEntries(segment.entry.inputs.map((name) => [name, take(name)]));
  store(
    await segment.session.run(
      feeds,
      segment.entry.outputs.map((output) => output.name),
    ),
  );
  const compute_ms = performance.now() - start;
  const sent = takeSent(segment);
  for (const name of segment.released) values.delete(name);
  return handOver({ sent, compute_ms }, sent);
};

/** Ends a step. */
export const finish = ({ arrived, outputs }: FinishTask): Promise<Answer<Tensors>> =>
  answer('SEGMENT_RUN', async () => {
    store(arrived);
    // A copy each: a model may name one tensor twice, or give out what it was fed.
    const wanted = Object.fromEntries(outputs.map((name) => [name, copyOf(take(name))]));
    values.clear();
    return handOver(wanted, wanted);
  });

/** Closes all sessions. */
export const dispose = async (): Promise<void> => {
  values.clear();
  for (const { session } of segments.splice(0)) await session.dispose();
};
