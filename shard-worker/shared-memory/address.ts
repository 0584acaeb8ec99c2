/**
 * How ranks name their shared memory to each other: `/proc/PID/fd/N#TOKEN`. The token tells it from whatever else may stand there once
 * the process has gone.
 */
import { randomBytes } from 'node:crypto';
import { TandemError } from '../../common/errors.js';
import { createMemory } from './system.js';

const ADDRESS = /^(\/proc\/\d+\/fd\/\d+)#([0-9a-f]{32})$/;

export interface MemoryAddress {
  readonly path: string;
  readonly token: string;
}

/** @throws TandemError `SHARED_MEMORY` */
export const parseAddress = (address: string | undefined): MemoryAddress => {
  const [, path, token] = ADDRESS.exec(address ?? '') ?? [];
  if (path !== undefined && token !== undefined) return { path, token };
  throw new TandemError('SHARED_MEMORY', `Expected an address such as /proc/PID/fd/N#TOKEN, found "${address}".`);
};

/** Memory of this process, and how others find it. */
export interface OwnMemory {
  readonly fd: number;
  readonly address: string;
}

/** @throws Error where there is no shared memory */
export const ownMemory = (): OwnMemory => {
  const fd = createMemory();
  return { fd, address: `/proc/${process.pid}/fd/${fd}#${randomBytes(16).toString('hex')}` };
};
