/**
 * Inside the compute thread: the rank's sessions, their memory, and the steps that they run. Piscina calls the exported functions by
 * name. ONNX Runtime blocks this thread while a segment runs, and waiting for peers does; the main thread stays free to
 * answer pings.
 */
import { type Answer, answer } from '../common/answer.js';
import { TandemError } from '../common/errors.js';
import { ONNXRUNTIME_VERSION, openSession, type Provider } from '../common/onnxruntime.js';
import type { OptimisedFor } from '../partition/write/manifest.js';
import { openOptimised } from '../partition/write/optimise/open-optimised.js';
import { bindProgram, type LoadedSegment } from './bound-program.js';
import { BufferPool, ownBuffer } from './buffers.js';
import type { ConnectTask, OpenTask, RehearseTask, StepDone, StepTask } from './compute-protocol.js';
import { outOfMemory } from './device-memory.js';
import { proveOnDevice } from './device-proof.js';
import { keptOutputs, Uploads } from './device-values.js';
import { DirectSocketLink } from './direct-sockets/link.js';
import type { Link } from './link.js';
import { prepareRehearsal, type Rehearsal } from './rehearsal.js';
import { checkSession } from './segment-check.js';
import { SharedMemoryLink } from './shared-memory/link.js';
import { SocketLink } from './socket-link.js';
import { type BoundLane, runStep } from './step-loop.js';
import { ThreadStatus } from './thread-status.js';

/** By their numbers in the rank's program. */
const segments = new Map<number, LoadedSegment>();
/** By network and lane. */
const bound = new Map<string, BoundLane>();
/** By segment; undefined for one that cannot be run by itself. */
const rehearsals = new Map<number, Rehearsal | undefined>();
/** By lane. */
const memories = new Map<number, BufferPool>();
const uploads = new Uploads();
let connection: { readonly link: Link; readonly status: ThreadStatus } | undefined;

/** Opens a segment's graph. */
export const open = (task: OpenTask): Promise<Answer<undefined>> =>
  answer(async () => {
    await openSegment(task).catch((error: unknown) => {
      throw outOfMemory(error, 'open', task.segment, task.weightBytes) ?? error;
    });
    return undefined;
  }, 'SEGMENT_OPEN');

/** The coordinator has checked the processor as well, which takes a session. */
const checkOptimised = (prepared: OptimisedFor, provider: Provider): void => {
  if (prepared.provider === provider && prepared.onnxruntime_version === ONNXRUNTIME_VERSION) return;
  throw new TandemError(
    'SHARD_PREPARED',
    `The segments were prepared for provider "${prepared.provider}" and ONNX Runtime ${prepared.onnxruntime_version}, but this is "${provider}" and ${ONNXRUNTIME_VERSION}; make the shard directory again with "tandem partition".`,
  );
};

const openSegment = async (task: OpenTask): Promise<void> => {
  const { index, path, segment: entry, given, provider, deviceId, threads, prepared } = task;
  if (prepared) checkOptimised(prepared, provider);
  await proveOnDevice({ path, entry, provider, deviceId });
  const kept = keptOutputs(entry, given, provider);
  const device = { provider, deviceId, threads, kept };
  const session = await (prepared
    ? openOptimised(path, device)
    : openSession(path, { ...device, optimization: 'all' }));
  checkSession(session, entry);
  await uploads.prepare(
    provider,
    deviceId,
    session.inputs.map(({ dtype }) => dtype),
  );
  segments.set(index, { session, entry, kept, copies: provider !== 'cpu' });
};

const linkOf = (link: ConnectTask['link'], status: ThreadStatus): Link => {
  switch (link.kind) {
    case 'sockets':
      return new SocketLink(link.port, status);
    case 'direct-sockets':
      return new DirectSocketLink(link, status);
    case 'shared-memory':
      return new SharedMemoryLink(link, status);
  }
};

/** Gives the thread its way to the peers. What was tied to the way before is tied anew by the next step. */
export const connect = ({ status, link }: ConnectTask): Promise<Answer<undefined>> =>
  answer(() => {
    connection?.link.close();
    bound.clear();
    const own = new ThreadStatus(status);
    connection = { status: own, link: linkOf(link, own) };
    return undefined;
  }, 'EXCHANGE_CONNECT');

const loaded = (index: number): LoadedSegment => {
  const segment = segments.get(index);
  if (segment !== undefined) return segment;
  throw new TandemError('SEGMENT_MISSING', `Segment ${index} was not opened; there are ${segments.size}.`);
};

const memoryOf = (lane: number): BufferPool => {
  const found = memories.get(lane) ?? new BufferPool(ownBuffer);
  memories.set(lane, found);
  return found;
};

/** Ties a network's program to a lane's memory, once. Networks never run at the same time: they share it. */
const bindLane = (index: number, { first, count, inputs, outputs }: StepTask, link: Link): BoundLane => {
  const key = `${first}/${index}`;
  const found = bound.get(key);
  if (found !== undefined) return found;
  const memory = memoryOf(index);
  memory.giveAll();
  const own = Array.from({ length: count }, (_, segment) => loaded(first + segment));
  const lane = link.lane(index, first);
  const made = { lane, program: bindProgram({ first, segments: own, inputs, outputs, lane, memory, uploads }) };
  bound.set(key, made);
  return made;
};

/** Runs a step. */
export const step = (task: StepTask): Promise<Answer<StepDone>> =>
  answer(() => {
    if (connection === undefined) throw new TandemError('PROTOCOL_ORDER', 'Expected "connect" before a step.');
    const { link, status } = connection;
    return runStep(task, { link, status, bind: (lane) => bindLane(lane, task, link) });
  }, 'SEGMENT_RUN');

/** Runs a segment by itself, between steps. */
export const rehearse = ({ index }: RehearseTask): Promise<Answer<string | undefined>> =>
  answer(() => {
    if (!rehearsals.has(index)) rehearsals.set(index, prepareRehearsal(loaded(index), memoryOf(0)));
    return rehearsals.get(index)?.run();
  }, 'SEGMENT_RUN');

/** Closes all sessions. */
export const dispose = async (): Promise<void> => {
  connection?.link.close();
  bound.clear();
  rehearsals.clear();
  const opened = [...segments.values()];
  segments.clear();
  for (const { session } of opened) await session.dispose();
  await uploads.dispose();
};
