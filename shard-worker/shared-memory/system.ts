/**
 * Memory that processes share, and sleeping until another process rings (Linux, glibc and musl).
 *
 * The memory is an anonymous file (memfd_create(2)): it has no name that could be left behind, is not bound by the size of /dev/shm,
 * and is gone with the last process that has it, however that ends. Others of the same user open it through its owner's /proc entry.
 * It is sealed at its size, so that nobody can shrink it under a reader.
 */
import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { TandemError } from '../../common/errors.js';
import { koffi, openLibrary } from '../native.js';

// memfd_create(2), fcntl(2), mmap(2), futex(2): include/uapi/linux, the same on all processors.
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL_SHRINK_GROW = 1 | 2 | 4;
const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED = 1;
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
/** Of the futex(2) system call, by processor. */
const FUTEX_CALLS: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 202, arm64: 98 };

interface System {
  readonly koffi: ReturnType<typeof koffi>;
  readonly memfdCreate: (name: string, flags: number) => number;
  readonly fcntl: (fd: number, command: number, value: number) => number;
  readonly mmap: (at: null, bytes: number, protection: number, flags: number, fd: number, offset: number) => bigint;
  readonly munmap: (address: bigint, bytes: number) => number;
  readonly futex: (
    call: number,
    address: bigint,
    operation: number,
    value: number,
    timeout: BigInt64Array | null,
  ) => number;
  readonly futexCall: number;
}

const load = (): System => {
  const futexCall = FUTEX_CALLS[process.arch];
  if (process.platform !== 'linux' || futexCall === undefined)
    throw new Error(`it exists on Linux for x64 and arm64 so far, and this is ${process.platform} on ${process.arch}`);
  // The C library that Node.js itself runs on, whichever that is.
  const libc = openLibrary(null);
  return {
    koffi: koffi(),
    memfdCreate: libc.func('int memfd_create(const char *name, unsigned int flags)'),
    fcntl: libc.func('int fcntl(int fd, int command, int value)'),
    mmap: libc.func('uintptr_t mmap(void *at, size_t bytes, int protection, int flags, int fd, int64_t offset)'),
    munmap: libc.func('int munmap(uintptr_t address, size_t bytes)'),
    futex: libc.func('long syscall(long call, uintptr_t address, int operation, uint32_t value, void *timeout)'),
    futexCall,
  };
};

let loaded: System | undefined;

const system = (): System => {
  loaded ??= load();
  return loaded;
};

const failed = (what: string): TandemError => {
  const { koffi } = system();
  const name = Object.entries(koffi.os.errno).find(([, code]) => code === koffi.errno())?.[0] ?? koffi.errno();
  return new TandemError('SHARED_MEMORY', `${what} failed: ${name}; use wire.transport "ipc", or give more memory.`);
};

/** A new piece of shared memory, empty until it is mapped. @returns its file descriptor */
export const createMemory = (): number => {
  const fd = system().memfdCreate('tandem-exchange', MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw failed('memfd_create');
  return fd;
};

/** Gives memory its size, once and for all. */
export const sizeMemory = (fd: number, bytes: number): void => {
  if (fstatSync(fd).size === bytes) return;
  ftruncateSync(fd, bytes);
  if (system().fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL_SHRINK_GROW) < 0) throw failed('Sealing shared memory');
};

/** Shared memory as this process sees it. */
export interface Mapping {
  readonly memory: ArrayBuffer;
  readonly address: bigint;
  /** Nobody may touch views of `memory` afterwards. */
  unmap(): void;
}

export const mapMemory = (fd: number, bytes: number): Mapping => {
  const { koffi, mmap, munmap } = system();
  const found = BigInt(mmap(null, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0));
  // MAP_FAILED is -1.
  if (found === 0xffffffffffffffffn || found === -1n) throw failed('mmap');
  return { memory: koffi.view(found, bytes), address: found, unmap: () => void munmap(found, bytes) };
};

/** Maps another process's memory. @throws TandemError `SHARED_MEMORY` where it is gone or not as large as expected */
export const openMemory = (path: string, bytes: number): Mapping => {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (cause) {
    throw new TandemError('SHARED_MEMORY', `Expected a peer's shared memory at ${path}; it cannot be opened.`, {
      cause,
    });
  }
  try {
    const { size } = fstatSync(fd);
    if (size !== bytes)
      throw new TandemError(
        'SHARED_MEMORY',
        `Expected ${bytes} bytes of shared memory at ${path}, found ${size}; both ranks must read the same shard directory.`,
      );
    return mapMemory(fd, bytes);
  } finally {
    closeSync(fd);
  }
};

const NANOSECONDS = 1_000_000n;
const timeout = new BigInt64Array(2);

/** Sleeps while the word at an address has this value: until woken, for `ms` below 1000 at most, or for no reason. */
export const sleepOn = (address: bigint, value: number, ms: number): void => {
  const { futex, futexCall } = system();
  timeout[1] = BigInt(ms) * NANOSECONDS;
  futex(futexCall, address, FUTEX_WAIT, value, timeout);
};

/** Wakes the process that sleeps on the word at an address. */
export const wake = (address: bigint): void => {
  const { futex, futexCall } = system();
  futex(futexCall, address, FUTEX_WAKE, 1, null);
};

/** Why memory cannot be shared here; undefined where it can. */
export const whyNoSharedMemory = (): string | undefined => {
  try {
    const fd = createMemory();
    try {
      sizeMemory(fd, 4096);
      const mapping = openMemory(`/proc/${process.pid}/fd/${fd}`, 4096);
      wake(mapping.address);
      mapping.unmap();
    } finally {
      closeSync(fd);
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.split('\n')[0] : String(error);
  }
};
