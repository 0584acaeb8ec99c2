/** How much memory this process holds for itself. */
import { readFileSync } from 'node:fs';
import type { Memory } from './protocol.js';

const statusBytes = (status: string, field: string): number => {
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  return kilobytes === undefined ? 0 : Number(kilobytes) * 1024;
};

/**
 * Bytes that are resident or swapped out and belong to this process, with what it exchanges through shared memory, of its peers' too
 * as far as it has read that. On Linux, mapped files (weights) are left out: `RssAnon`, `RssShmem` and `VmSwap` of proc(5).
 * Elsewhere the whole resident set, which is an upper bound.
 */
export const privateBytes = (): number => {
  if (process.platform !== 'linux') return process.memoryUsage.rss();
  const status = readFileSync('/proc/self/status', 'utf8');
  return ['RssAnon', 'RssShmem', 'VmSwap'].reduce((sum, field) => sum + statusBytes(status, field), 0);
};

/** Resident pages of mapped files: programs and libraries, and the weights. 0 where only Linux says it. */
const fileBytes = (): number =>
  process.platform === 'linux' ? statusBytes(readFileSync('/proc/self/status', 'utf8'), 'RssFile') : 0;

/** Watches the process's memory and remembers the peaks. */
export class MemoryWatch {
  #peak = 0;
  #mapped = 0;
  readonly #before = fileBytes();
  readonly #timer: NodeJS.Timeout;

  /** @param intervalMs how often to look besides explicit samples */
  constructor(intervalMs = 200) {
    this.#timer = setInterval(() => this.sample(), intervalMs);
    this.#timer.unref();
  }

  sample(): Memory {
    const now = privateBytes();
    this.#peak = Math.max(this.#peak, now);
    this.#mapped = Math.max(this.#mapped, fileBytes() - this.#before);
    return { private_bytes: now, peak_private_bytes: this.#peak, mapped_bytes: this.#mapped };
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
