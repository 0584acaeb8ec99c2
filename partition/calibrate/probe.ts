/**
 * A shard directory that does next to nothing but exchange: each rank's program is a chain of segments that add up what two
 * ranks sent. Running it tells what an exchange costs on this machine, whatever a worker has to do for one.
 */

import type { TensorSpec } from '../../common/tensor.js';
import type { Graph, Value } from '../graph/graph.js';
import { makeNode } from '../graph/tape.js';
import { writeShardDirectory } from '../write/index.js';
import { FORMAT_VERSION, type Manifest, type SegmentEntry } from '../write/manifest.js';

/** What all versions of ONNX Runtime that we can meet know. */
const VERSIONS = { opsets: [{ domain: '', version: 17 }], irVersion: 8 } as const;

export interface ProbeShape {
  /** Elements of float32 that each rank sends in each exchange. */
  readonly elements: number;
  readonly exchanges: number;
}

interface Segment {
  readonly graph: Graph;
  readonly entry: Omit<SegmentEntry, 'file'>;
}

const spec = (name: string, elements: number): TensorSpec => ({ name, dtype: 'float32', shape: [elements] });

/** The first segment makes what is sent; each further one adds up; the last gives it out. */
const makeSegment = (rank: number, index: number, { elements, exchanges }: ProbeShape): Segment => {
  const peer = 1 - rank;
  const [own, from] = [`t${index - 1}`, `t${index - 1}@from${peer}`];
  const isLast = index === exchanges;
  const made = spec(isLast ? 'y' : `t${index}`, elements);
  const names = index === 0 ? ['x'] : rank === 0 ? [own, from] : [from, own];
  const inputs = names.map((name): Value => spec(name, elements));
  const nodes = [makeNode(index === 0 ? 'Relu' : 'Add', made.name, inputs, made)];
  return {
    graph: { ...VERSIONS, nodes, inputs, outputs: [made] },
    entry: {
      inputs: names,
      outputs: [made],
      sends: isLast ? [] : [{ tensor: made.name, to: [peer] }],
      receives: isLast ? [] : [{ ...spec(`${made.name}@from${peer}`, elements), from: peer, tensor: made.name }],
      release: names,
    },
  };
};

const fileOf = (rank: number, segment: number): string =>
  `rank-${rank}/segment-${String(segment).padStart(3, '0')}.onnx`;

/**
 * Writes the directory, for two ranks.
 * @throws TandemError of the writer
 */
export const writeProbe = (out: string, shape: ProbeShape, toolVersion: string): Promise<Manifest> => {
  const indexes = Array.from({ length: shape.exchanges + 1 }, (_, index) => index);
  const programs = [0, 1].map((rank) => indexes.map((index) => makeSegment(rank, index, shape)));
  return writeShardDirectory(out, {
    manifest: {
      format_version: FORMAT_VERSION,
      tool_version: toolVersion,
      model: { name: 'probe', sha256: '0'.repeat(64) },
      world_size: 2,
      wire_dtype: 'fp32',
      profiles: [
        {
          name: 'static',
          dims: {},
          inputs: [spec('x', shape.elements)],
          outputs: [spec('y', shape.elements)],
          wire_bytes_per_step: 4 * shape.elements * shape.exchanges,
          ranks: programs.map((program, rank) => ({
            segments: program.map(({ entry }, index) => ({ file: fileOf(rank, index), ...entry })),
          })),
        },
      ],
    },
    ranks: programs.map((program, rank) => ({
      folder: `rank-${rank}`,
      segments: program.map(({ graph }, index) => ({ file: fileOf(rank, index), graph })),
    })),
  });
};
