import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { DType, HostTensor } from '#tandem/common/tensor.js';
import type { Profile, SegmentEntry } from '#tandem/partition/write/manifest.js';
import { BufferPool, ownBuffer } from '#tandem/shard-worker/buffers.js';
import { Exchange } from '#tandem/shard-worker/exchange.js';
import type { Place } from '#tandem/shard-worker/frames.js';
import { encodeHeader, PIECE_BYTES } from '#tandem/shard-worker/frames.js';
import { ExchangeInbox, ExchangeOutbox } from '#tandem/shard-worker/transport.js';
import { errorOf, withDirectory } from '../cluster/helpers.js';

const at = (step: number, segment: number, microBatch = 0): Place => ({ step, microBatch, segment });

/** One all-to-all tensor per segment: every rank sends its `t` to all others. */
const profileOf = (ranks: number, segments: readonly { dtype: DType; shape: readonly number[] }[]): Profile => {
  const segment = (rank: number, spec: { dtype: DType; shape: readonly number[] }): SegmentEntry => {
    const peers = Array.from({ length: ranks }, (_, peer) => peer).filter((peer) => peer !== rank);
    return {
      file: 'unused',
      inputs: [],
      outputs: [{ name: 't', ...spec }],
      sends: [{ tensor: 't', to: peers }],
      receives: peers.map((from) => ({ name: `t_${from}`, ...spec, from, tensor: 't' })),
      release: [],
    };
  };
  return {
    name: 'static',
    dims: {},
    inputs: [],
    outputs: [],
    wire_bytes_per_step: 0,
    ranks: Array.from({ length: ranks }, (_, rank) => ({ segments: segments.map((spec) => segment(rank, spec)) })),
  };
};

/** Opens the exchanges of all ranks in this process, over real sockets. */
const withExchanges = (
  profile: Profile,
  work: (exchanges: readonly [Exchange, Exchange, ...Exchange[]], endpoints: readonly string[]) => Promise<void>,
  timeoutMs = 5000,
): Promise<void> =>
  withDirectory(async (directory) => {
    const peers = profile.ranks.map((_, rank) => `ipc://${join(directory, `rank-${rank}.sock`)}`);
    const inboxes = await Promise.all(peers.map((endpoint) => ExchangeInbox.listen(endpoint)));
    const exchanges = inboxes.map(
      (inbox, rank) =>
        new Exchange({ rank, profile, inbox, peers, timeoutMs, afterStep: 0, buffers: new BufferPool(ownBuffer) }),
    );
    try {
      await work(exchanges as [Exchange, Exchange, ...Exchange[]], peers);
    } finally {
      for (const exchange of exchanges) exchange.close();
    }
  });

const bytes = (count: number, seed: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => (i * 31 + seed) % 251);
const tensorOf = (dtype: DType, shape: readonly number[], data: Uint8Array): { t: HostTensor } => ({
  t: { dtype, shape, data },
});

it.each([
  ['an empty tensor', 0],
  ['a small tensor', 10],
  ['exactly one piece', PIECE_BYTES],
  ['one byte more than a piece', PIECE_BYTES + 1],
  ['many pieces, more than may wait at once', 20 * PIECE_BYTES + 3],
])('moves %s both ways at once', async (_, count) => {
  await withExchanges(profileOf(2, [{ dtype: 'uint8', shape: [count] }]), async ([a, b]) => {
    const [fromA, fromB] = [bytes(count, 1), bytes(count, 2)];
    const [sent, , atA, atB] = await Promise.all([
      a.send(at(1, 0), tensorOf('uint8', [count], fromA)),
      b.send(at(1, 0), tensorOf('uint8', [count], fromB)),
      a.receive(at(1, 0)),
      b.receive(at(1, 0)),
    ]);
    expect(sent).toBe(count);
    expect(Buffer.compare(atA.t_1?.data ?? bytes(1, 0), fromB)).toBe(0);
    expect(Buffer.compare(atB.t_0?.data ?? bytes(1, 0), fromA)).toBe(0);
  });
});

it('keeps type and shape of fp16 tensors and their bits', async () => {
  const bits = new Uint8Array(Uint16Array.of(0x3c00, 0xfc00, 0x7e01, 0x8000).buffer);
  await withExchanges(profileOf(2, [{ dtype: 'float16', shape: [2, 2] }]), async ([a, b]) => {
    await a.send(at(1, 0), tensorOf('float16', [2, 2], bits));
    const { t_0: tensor } = await b.receive(at(1, 0));
    expect(tensor).toMatchObject({ dtype: 'float16', shape: [2, 2] });
    expect([...(tensor?.data ?? [])]).toEqual([...bits]);
  });
});

it('keeps what arrives early, for a later segment or a later step', async () => {
  const specs = [0, 1].map(() => ({ dtype: 'uint8' as const, shape: [3] }));
  await withExchanges(profileOf(2, specs), async ([a, b]) => {
    for (const step of [1, 2])
      for (const segment of [0, 1])
        await a.send(at(step, segment), tensorOf('uint8', [3], bytes(3, 10 * step + segment)));
    await delay(50);
    for (const step of [1, 2]) {
      for (const segment of [0, 1]) {
        const { t_0: tensor } = await b.receive(at(step, segment));
        expect([...(tensor?.data ?? [])]).toEqual([...bytes(3, 10 * step + segment)]);
      }
    }
  });
});

it('tells micro-batches of a step apart, and gives back what was sent of each once its peer is further on', async () => {
  const specs = [0, 1].map(() => ({ dtype: 'uint8' as const, shape: [3] }));
  await withExchanges(profileOf(2, specs), async ([a, b]) => {
    const sent = [0, 1].map((microBatch) => tensorOf('uint8', [3], bytes(3, microBatch)));
    for (const microBatch of [1, 0]) await a.send(at(1, 0, microBatch), sent[microBatch] ?? {});
    for (const microBatch of [0, 1]) {
      const { t_0: tensor } = await b.receive(at(1, 0, microBatch));
      expect([...(tensor?.data ?? [])]).toEqual([...bytes(3, microBatch)]);
    }
    await b.send(at(1, 1, 1), tensorOf('uint8', [3], bytes(3, 9)));
    await a.receive(at(1, 1, 1));
    expect(a.takeDelivered(1)).toEqual([sent[1]?.t]);
  });
});

it('brings three ranks together, whoever is first', async () => {
  await withExchanges(profileOf(3, [{ dtype: 'uint8', shape: [4] }]), async (exchanges) => {
    const arrived = await Promise.all(
      exchanges.map(async (exchange, rank) => {
        await delay(20 * (2 - rank));
        await exchange.send(at(1, 0), tensorOf('uint8', [4], bytes(4, rank)));
        return exchange.receive(at(1, 0));
      }),
    );
    for (const [rank, tensors] of arrived.entries()) {
      for (const peer of [0, 1, 2].filter((other) => other !== rank)) {
        expect([...(tensors[`t_${peer}`]?.data ?? [])]).toEqual([...bytes(4, peer)]);
      }
    }
  });
});

it('ends the wait for a peer that does not send, and names it', async () => {
  const profile = profileOf(3, [{ dtype: 'uint8', shape: [4] }]);
  await withExchanges(
    profile,
    async ([a, b]) => {
      await b.send(at(1, 0), tensorOf('uint8', [4], bytes(4, 1)));
      const failing = errorOf(a.receive(at(1, 0)));
      await delay(50);
      expect(a.awaiting).toEqual([2]);
      const error = await failing;
      expect(error.code).toBe('EXCHANGE_TIMEOUT');
      expect(error.message).toMatch(/Rank 0 waited 150 ms in step\/segment 1\.0\/0 for "t_2" from rank 2/);
      expect(a.awaiting).toEqual([]);
    },
    150,
  );
});

const HEADER = { from: 1, step: 1, microBatch: 0, segment: 0, tensor: 0, piece: 0, totalBytes: 4 };

it.each<[string, Uint8Array, Uint8Array, RegExp]>([
  ['no header', Buffer.from('hello'), bytes(4, 0), /found 5 other bytes/],
  ['another size', encodeHeader({ ...HEADER, totalBytes: 5 }), bytes(5, 0), /expected "t_1" of 4 bytes.*of 5 bytes/],
  [
    'a segment that does not exist',
    encodeHeader({ ...HEADER, segment: 9 }),
    bytes(4, 0),
    /expected nothing after segment 9/,
  ],
  ['a sender that does not exist', encodeHeader({ ...HEADER, from: 7 }), bytes(4, 0), /rank 7 sent/],
  ['a piece out of order', encodeHeader({ ...HEADER, piece: 1 }), bytes(0, 0), /expected piece 0/],
  ['a payload cut short', encodeHeader(HEADER), bytes(3, 0), /found piece 0 of 3 bytes/],
])(
  'drops a frame with %s, counts it, says so where a tensor is then missing, and takes what comes after',
  async (_, header, payload, text) => {
    await withExchanges(
      profileOf(2, [{ dtype: 'uint8', shape: [4] }]),
      async ([a], [endpoint = '']) => {
        const peer = new ExchangeOutbox(endpoint);
        const failing = errorOf(a.receive(at(1, 0)));
        await peer.send(header, payload);
        const error = await failing;
        expect(error.code).toBe('EXCHANGE_TIMEOUT');
        expect(error.message).toMatch(text);
        expect(a.droppedFrames).toBe(1);
        await peer.send(encodeHeader({ ...HEADER, step: 2 }), bytes(4, 7));
        expect((await a.receive(at(2, 0))).t_1?.data).toEqual(bytes(4, 7));
        peer.close();
      },
      300,
    );
  },
);
