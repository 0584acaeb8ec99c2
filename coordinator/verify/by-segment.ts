/** Where the ranks' numbers first leave the whole model's: segment by segment, in one process of its own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { TandemError } from '../../common/errors.js';
import type { HostTensor } from '../../common/tensor.js';
import type { Road, RoadDevice } from '../../partition/proof/road.js';
import type { Hooks } from '../hooks.js';
import { prepareShards } from '../shards/prepare.js';
import { denoiserRequest } from '../shards/request.js';
import { randomInputs } from './random-inputs.js';
import { TOLERANCE, type VerifyRequest } from './verify.js';

export interface WalkOrder {
  readonly model: string;
  readonly directory: string;
  /** Its name. */
  readonly profile: string;
  readonly devices: readonly RoadDevice[];
  readonly inputs: Readonly<Record<string, HostTensor>>;
  readonly tolerance: number;
}

export type FromWalk =
  | { readonly kind: 'progress'; readonly done: number; readonly total: number }
  | { readonly kind: 'walked'; readonly road: Road }
  | { readonly kind: 'failed'; readonly message: string };

/** What `tandem verify --by-segment` says; the JSON keys are a contract. */
export interface BySegmentReport extends Road {
  readonly passed: boolean;
  readonly tolerance: number;
  readonly seed: number;
}

const failed = (message: string): TandemError =>
  new TandemError('VERIFY_WALK', `Following the segments one by one failed: ${message}`);

const walk = async (order: WalkOrder, { signal, onProgress }: Hooks): Promise<Road> => {
  const child = fork(new URL('./by-segment-child.js', import.meta.url), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
    ...(signal ? { signal, killSignal: 'SIGKILL' } : {}),
  });
  const walked = new Promise<Road>((resolve, reject) => {
    child.on('message', (message: FromWalk) => {
      if (message.kind === 'progress') onProgress?.('segments', message.done, message.total);
      else if (message.kind === 'walked') resolve(message.road);
      else reject(failed(message.message));
    });
    child.once('error', (error) => reject(signal?.aborted ? signal.reason : failed(error.message)));
    child.once('exit', (code, by) => reject(failed(`its process ended (${by ?? `status ${code}`}).`)));
  });
  const ended = once(child, 'exit');
  try {
    child.send(order);
    return await walked;
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
};

/** An int8 wire rounds to a 254th of a row's largest value, at every exchange. */
const WALK_TOLERANCE = { ...TOLERANCE, int8: 0.05 } as const;

/**
 * Follows the ranks' segments on one step's random inputs, beside the whole model.
 * @throws TandemError `VERIFY_WALK`; as `prepareShards` does. A tensor that leaves the road is a report with `passed: false`.
 */
export const verifyBySegment = async (request: VerifyRequest): Promise<BySegmentReport> => {
  const { directory, profile } = await prepareShards(denoiserRequest(request, request), request);
  const tolerance = request.tolerance ?? WALK_TOLERANCE[request.wire.dtype];
  const order: WalkOrder = {
    model: request.model.path,
    directory,
    profile: profile.name,
    devices: request.devices.map(({ provider, deviceId, threads }) => ({ provider, deviceId, threads })),
    inputs: randomInputs(profile.inputs, request.seed),
    tolerance,
  };
  const road = await walk(order, request);
  return { passed: road.first === null, tolerance, seed: request.seed, ...road };
};
