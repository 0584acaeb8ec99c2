// Looks at `ulimit -v` before anything large is loaded: V8 and ONNX Runtime reserve more than they use, and a reservation that is refused
// ends the process with a dump of registers in place of a reason. Needs no more than Node itself, which runs from about 0.9 GB on.
import { readFileSync } from 'node:fs';

/** With this much, two workers make pictures of the shipped model; with 2 GB they do not start. */
const NEEDED_BYTES = 3e9;

const limit = () => {
  try {
    return Number(/^Max address space +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity);
  } catch {
    // Only Linux says it there.
    return Infinity;
  }
};

const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;

/** @returns what is wrong, for people; undefined where nothing is */
export const addressSpaceProblem = () => {
  const found = limit();
  if (found >= NEEDED_BYTES) return undefined;
  return `error: Expected at least ${gigabytes(NEEDED_BYTES)} of address space, found a limit of ${gigabytes(found)} (ulimit -v). Raise it: it counts what is reserved, not what is used. To limit memory that is used, give the process a control group (systemd-run -p MemoryMax=4G, docker run --memory 4g).\n`;
};
