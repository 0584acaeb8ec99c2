/**
 * A shard directory that does next to nothing but exchange: each rank's program is a chain of segments that add up what two
 * ranks sent. Running it tells what an exchange costs on this machine, whatever a worker has to do for one.
 */

import { DTYPES, type TensorSpec } from '../../common/tensor.js';
import { createGraph, createModel, createNode, createValueInfo, type ModelProto } from '../onnx/index.js';
import type { EmittedSegment } from '../segments/emit.js';
import { writeShardDirectory } from '../write/index.js';
import type { Manifest, SegmentEntry } from '../write/manifest.js';
import { FORMAT_VERSION } from '../write/manifest.js';

/** Operators that all versions of ONNX Runtime that we can meet know. */
const OPSET = 17n;
const IR_VERSION = 8n;

export interface ProbeShape {
  /** Elements of float32 that each rank sends in each exchange. */
  readonly elements: number;
  readonly exchanges: number;
}

type Segment = Pick<EmittedSegment, 'sends' | 'receives' | 'release'> &
  Pick<SegmentEntry, 'inputs' | 'outputs'> & { readonly model: ModelProto };

const spec = (name: string, elements: number): TensorSpec => ({ name, dtype: 'float32', shape: [elements] });
const declare = ({ name, dtype, shape }: TensorSpec) => createValueInfo(name, DTYPES[dtype].code, shape);

/** The first segment makes what is sent; each further one adds up; the last gives it out. */
const makeSegment = (rank: number, index: number, { elements, exchanges }: ProbeShape): Segment => {
  const peer = 1 - rank;
  const [own, from] = [`t${index - 1}`, `t${index - 1}@from${peer}`];
  const made = index === exchanges ? 'y' : `t${index}`;
  const inputs = index === 0 ? ['x'] : rank === 0 ? [own, from] : [from, own];
  const node = createNode({ opType: index === 0 ? 'Relu' : 'Add', input: inputs, output: [made] });
  const isLast = index === exchanges;
  return {
    model: createModel({
      irVersion: IR_VERSION,
      opsetImport: [{ domain: '', version: OPSET }],
      graph: createGraph({
        name: 'probe',
        node: [node],
        input: inputs.map((name) => declare(spec(name, elements))),
        output: [declare(spec(made, elements))],
      }),
    }),
    inputs,
    outputs: [spec(made, elements)],
    sends: isLast ? [] : [{ tensor: made, to: [peer] }],
    receives: isLast ? [] : [{ ...spec(`${made}@from${peer}`, elements), from: peer, tensor: made }],
    release: inputs,
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
            segments: program.map(({ model: _, ...entry }, index) => ({ file: fileOf(rank, index), ...entry })),
          })),
        },
      ],
    },
    ranks: programs.map((program, rank) => ({
      folder: `rank-${rank}`,
      slices: [],
      segments: program.map(({ model }, index) => ({ file: fileOf(rank, index), model, constants: [] })),
    })),
  });
};
