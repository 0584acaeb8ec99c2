import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { waysOf } from '#tandem/coordinator/cluster/transport.js';
import type { SegmentEntry } from '#tandem/partition/write/manifest.js';
import type { BoundSegment } from '#tandem/shard-worker/bound-program.js';
import type { Lane } from '#tandem/shard-worker/link.js';
import { joinPrograms } from '#tandem/shard-worker/program.js';
import { ownMemory, parseAddress } from '#tandem/shard-worker/shared-memory/address.js';
import { SharedMemoryLink } from '#tandem/shard-worker/shared-memory/link.js';
import { placeRegions } from '#tandem/shard-worker/shared-memory/regions.js';
import { openMemory } from '#tandem/shard-worker/shared-memory/system.js';
import { ThreadStatus } from '#tandem/shard-worker/thread-status.js';
import { errorOf } from '../cluster/helpers.js';

/** Bytes that each segment sends to everyone; what it receives is needed for `keep` further segments. */
interface Sent {
  readonly bytes: number;
  readonly keep: number;
}

/** Every rank sends a tensor to all others after every segment. */
const programOf = (ranks: number, sent: readonly Sent[]): readonly { readonly segments: readonly SegmentEntry[] }[] => {
  const all = Array.from({ length: ranks }, (_, rank) => rank);
  const entry = (rank: number, index: number, bytes: number): SegmentEntry => {
    const peers = all.filter((peer) => peer !== rank);
    const spec = { dtype: 'uint8' as const, shape: [bytes] };
    const over = sent.flatMap(({ keep }, made) => (made + keep === index ? [made] : []));
    return {
      file: 'unused',
      inputs: [],
      outputs: [{ name: `t${index}`, ...spec }],
      sends: [{ tensor: `t${index}`, to: peers }],
      receives: peers.map((from) => ({ name: `t${index}_${from}`, ...spec, from, tensor: `t${index}` })),
      release: over.flatMap((made) => [`t${made}`, ...peers.map((from) => `t${made}_${from}`)]),
    };
  };
  return all.map((rank) => ({ segments: sent.map(({ bytes }, index) => entry(rank, index, bytes)) }));
};

const profileOf = (ranks: number, sent: readonly Sent[]) => ({
  ...{ name: 'static', dims: {}, inputs: [], outputs: [], wire_bytes_per_step: 0 },
  ranks: programOf(ranks, sent),
});

/** A rank in this process, which goes on when it is told to. */
interface Driven {
  readonly lane: Lane;
  readonly segments: readonly BoundSegment[];
  readonly link: SharedMemoryLink;
}

const withRanks = (
  sent: readonly Sent[],
  work: (a: Driven, b: Driven) => void,
  damage?: (memory: string) => string,
): void => {
  const program = joinPrograms([{ profile: profileOf(2, sent), members: [0, 1] }], 2);
  const own = [ownMemory(), ownMemory()];
  const links = own.map(({ fd }, rank) => {
    const memories = own.map(({ address }, index) => (damage && index !== rank ? damage(address) : address));
    return new SharedMemoryLink({ rank, fd, memories, program, timeoutMs: 100 }, ThreadStatus.forRanks(2));
  });
  try {
    const drive = (link: SharedMemoryLink, rank: number): Driven => {
      const lane = link.lane(0, 0);
      const segments = (program.ranks[rank]?.segments ?? []).map((entry, number) => {
        const run = async () => undefined;
        const tensors = (views: readonly (Uint8Array | undefined)[]) =>
          views.map((data = new Uint8Array()) => ({ dtype: 'uint8' as const, shape: [data.length], data }));
        return {
          ...{ number, entry, run, copiedBytes: 0 },
          sends: tensors(entry.sends.map((_, send) => lane.sent(number, send))),
          receives: tensors(entry.receives.map((_, receive) => lane.received(number, receive))),
        };
      });
      return { lane, segments, link };
    };
    const [a, b] = links.map(drive);
    if (a && b) work(a, b);
  } finally {
    for (const link of links) link.close();
    for (const { fd } of own) closeSync(fd);
  }
};

/** Runs a segment that fills what it sends with `value`. @returns false where it may not run yet */
const run = ({ lane, segments }: Driven, index: number, value: number): boolean => {
  const segment = segments[index];
  if (segment === undefined || !lane.mayRun(segment)) return false;
  for (const { data } of segment.sends) data.fill(value);
  lane.publish(segment);
  return true;
};

/** What has arrived after a segment, by its first byte; undefined before it has. */
const arrived = ({ lane, segments }: Driven, index: number): number | undefined => {
  const segment = segments[index];
  return segment !== undefined && lane.hasArrived(segment) ? segment.receives[0]?.data[0] : undefined;
};

const codeOf = async (work: () => void): Promise<string> => (await errorOf((async () => work())())).code;

describe.runIf(process.platform === 'linux')('an exchange through shared memory', () => {
  it('shows a rank what its peer has written, where it was written, once the peer says so', () => {
    withRanks([{ bytes: 100, keep: 1 }], (a, b) => {
      for (const rank of [a, b]) rank.lane.begin(1, 0);
      expect(arrived(b, 0)).toBeUndefined();
      expect(run(a, 0, 7)).toBe(true);
      expect(arrived(b, 0)).toBe(7);
      expect([...(b.segments[0]?.receives[0]?.data ?? [])]).toEqual(new Array(100).fill(7));
      expect(arrived(a, 0)).toBeUndefined();
    });
  });

  it('takes nothing of an abandoned step for a later one', () => {
    withRanks([{ bytes: 8, keep: 1 }], (a, b) => {
      for (const rank of [a, b]) rank.lane.begin(1, 0);
      run(a, 0, 1);
      b.lane.begin(2, 0);
      expect(arrived(b, 0)).toBeUndefined();
      a.lane.begin(2, 0);
      run(a, 0, 2);
      expect(arrived(b, 0)).toBe(2);
    });
  });

  it('writes nowhere that a slower rank still reads', () => {
    withRanks(
      Array.from({ length: 6 }, () => ({ bytes: 64, keep: 1 })),
      (a, b) => {
        for (const rank of [a, b]) rank.lane.begin(1, 0);
        // A rank that does not wait for what it receives would run away.
        let ahead = 0;
        while (run(a, ahead, ahead)) ahead += 1;
        expect(ahead).toBeLessThan(6);
        for (let index = 0; index < 6; index++) {
          if (index >= ahead) expect(run(a, index, index)).toBe(true);
          expect(arrived(b, index)).toBe(index);
          expect(run(b, index, 100 + index)).toBe(true);
        }
      },
    );
  });

  it('begins a further micro-batch in a lane only when everyone has left the one before', () => {
    withRanks([{ bytes: 8, keep: 1 }], (a, b) => {
      for (const rank of [a, b]) rank.lane.begin(1, 0);
      run(a, 0, 1);
      a.lane.end();
      a.lane.begin(1, 2);
      expect(run(a, 0, 2)).toBe(false);
      run(b, 0, 1);
      expect(arrived(b, 0)).toBe(1);
      b.lane.end();
      expect(run(a, 0, 2)).toBe(true);
    });
  });

  it('gives up on a peer that never comes, and says what is wrong with its memory', async () => {
    withRanks([{ bytes: 8, keep: 1 }], (a) => {
      a.lane.begin(1, 0);
      run(a, 0, 1);
      expect(arrived(a, 0)).toBeUndefined();
      const wait = (): void => {
        for (;;) {
          a.link.look();
          a.link.wait();
        }
      };
      expect(wait).toThrow(/Rank 0 waited 100 ms for the tensors of rank 1/);
    });
    const swapToken = (address: string): string => `${address.split('#')[0]}#${'0'.repeat(32)}`;
    expect(await codeOf(() => withRanks([{ bytes: 8, keep: 1 }], () => undefined, swapToken))).toBe('SHARED_MEMORY');
    expect(
      await codeOf(() =>
        withRanks(
          [{ bytes: 8, keep: 1 }],
          () => undefined,
          () => '/etc/passwd#1',
        ),
      ),
    ).toBe('SHARED_MEMORY');
    const { fd, address } = ownMemory();
    expect(await codeOf(() => openMemory(parseAddress(address).path, 4096))).toBe('SHARED_MEMORY');
    closeSync(fd);
  });

  it('is gone with its process, however that ends', async () => {
    const before = readdirSync('/dev/shm');
    const module = fileURLToPath(new URL('../../dist/shard-worker/shared-memory/address.js', import.meta.url));
    const program = `import { ownMemory } from ${JSON.stringify(module)}; console.log(ownMemory().address); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { path } = parseAddress(line.toString().trim());
    expect(existsSync(path)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await codeOf(() => openMemory(path, 4096))).toBe('SHARED_MEMORY');
    expect(readdirSync('/dev/shm')).toEqual(before);
  });
});

describe('where tensors lie', () => {
  it('lays no two tensors over each other that are needed at the same time, and reuses what is free', () => {
    const sent = Array.from({ length: 40 }, (_, index) => ({ bytes: 1 + ((index * 37) % 300), keep: 1 + (index % 5) }));
    const { regions, beforeRun, bytes } = placeRegions(programOf(3, sent), 1);
    for (const [later, [region]] of regions.entries()) {
      for (const [earlier, [other]] of regions.slice(0, later).entries()) {
        if (
          !region ||
          !other ||
          region.offset >= other.offset + other.bytes ||
          other.offset >= region.offset + region.bytes
        )
          continue;
        // Overwritten: everyone must have run the segment that released it, which lies before the last one.
        const released = earlier + (sent[earlier]?.keep ?? 0) + 1;
        expect(released).toBeLessThan(later);
        const covered = beforeRun.slice(0, later + 1).flat();
        for (const rank of [0, 2])
          expect(
            Math.max(...covered.filter((wait) => wait.rank === rank).map(({ count }) => count)),
          ).toBeGreaterThanOrEqual(released);
      }
    }
    expect(bytes).toBeLessThan(sent.reduce((sum, one) => sum + one.bytes, 0) / 2);
  });
});

describe('the choice of transport', () => {
  const none = (): string => 'it is switched off';
  const notices: string[] = [];
  const note = (message: string): void => void notices.push(message);

  it('says why it is not shared memory, and goes on over sockets', () => {
    expect(waysOf('auto', 2, note, none).sharesMemory).toBe(false);
    expect(notices).toEqual([
      expect.stringMatching(/over (ipc|tcp) sockets instead of shared memory: it is switched off/),
    ]);
  });

  it('is an error where shared memory was asked for by name', async () => {
    expect(await codeOf(() => waysOf('shared-memory', 2, note, none))).toBe('SHARED_MEMORY_UNAVAILABLE');
  });

  it('does not ask where there is nothing to exchange, or sockets are asked for', () => {
    const fail = (): string => {
      throw new Error('It was asked.');
    };
    expect(waysOf('auto', 1, note, fail).sharesMemory).toBe(false);
    expect(waysOf('ipc', 2, note, fail)).toEqual({ sockets: 'ipc', sharesMemory: false });
    expect(waysOf('tcp', 2, note, fail)).toEqual({ sockets: 'tcp', sharesMemory: false });
  });
});
