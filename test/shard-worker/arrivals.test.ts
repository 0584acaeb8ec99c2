import { expect, it } from 'vitest';
import type { Receive } from '#tandem/partition/write/manifest.js';
import { BufferPool, ownBuffer } from '#tandem/shard-worker/buffers.js';
import { Arrivals } from '#tandem/shard-worker/direct-sockets/arrivals.js';
import { encodeHeader } from '#tandem/shard-worker/frames.js';
import type { JoinedProgram } from '#tandem/shard-worker/program.js';

const tensor = { name: 't', dtype: 'uint8', shape: [4] } as const;
const receive: Receive = { ...tensor, from: 1, tensor: 't' };
const sender = { sends: [{ tensor: 't', to: [0] }], receives: [] };
const receiver = { sends: [], receives: [receive] };
const program = { ranks: [{ segments: [receiver] }, { segments: [sender] }] } as unknown as JoinedProgram;
const payload = Uint8Array.of(1, 2, 3, 4);

const opened = (): Arrivals => new Arrivals({ rank: 0, program, afterStep: 0, buffers: new BufferPool(ownBuffer) });
const header = (step: number, over: { readonly segment?: number; readonly totalBytes?: number } = {}): Buffer =>
  encodeHeader({ from: 1, step, microBatch: 0, segment: 0, tensor: 0, piece: 0, totalBytes: 4, ...over });
const place = (step: number) => ({ step, microBatch: 0, segment: 0 });

it('holds nothing for frames that no segment expects, however many there are', () => {
  const arrivals = opened();
  for (let step = 1; step < 2000; step++) {
    arrivals.add(header(step, { segment: 7 }), payload);
    arrivals.add(header(step, { totalBytes: 2 ** 40 }), payload);
  }
  arrivals.add(header(1), payload);
  const into = { ...tensor, data: new Uint8Array(4) };
  expect(arrivals.take(place(1), [into])).toBe(true);
  expect(into.data).toEqual(payload);
});

it('drops frames of more steps than can be under way, and says so when one is missing then', () => {
  const arrivals = opened();
  for (let step = 10; step < 2000; step++) arrivals.add(header(step), payload);
  expect(arrivals.take(place(1), [])).toBe(false);
  expect(arrivals.timeout([place(1)], 5).message).toMatch(/dropped before: .* found one of \S+ too many/);
});
