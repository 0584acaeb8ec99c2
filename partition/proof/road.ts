/**
 * Follows a shard directory's ranks from segment to segment, all in one process, beside the whole model on the CPU: which tensor is the
 * first to leave the road. Two things are compared. What a segment makes on its device, with what the CPU makes of the same inputs:
 * there a provider that is wrong shows by itself. And every tensor that ranks have joined or added up, with the whole model's
 * of that name: there a split that is wrong shows, and rounding as it adds up.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { compareOutputs } from '../../common/compare.js';
import { TandemError } from '../../common/errors.js';
import { type LocalSession, openSession, type Provider } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import { createGraph, createModel, createValueInfo, decodeModel, encodeModel, type ModelProto } from '../onnx/index.js';
import type { Manifest, Profile, SegmentEntry } from '../write/manifest.js';
import { openOptimised } from '../write/optimise/open-optimised.js';
import { type FirstWrong, findFirstWrong } from './first-wrong.js';

type Tensors = Readonly<Record<string, HostTensor>>;

export interface RoadDevice {
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
}

export interface RoadRequest {
  /** The `.onnx` file that the shards were made from. */
  readonly model: string;
  readonly directory: string;
  readonly manifest: Manifest;
  readonly profile: Profile;
  /** Index is the rank. */
  readonly devices: readonly RoadDevice[];
  readonly inputs: Tensors;
  /** Greatest `max_rel_error` that is still on the road. */
  readonly tolerance: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** A tensor that was compared. */
export interface Stone {
  readonly rank: number;
  /** Its graph, relative to the shard directory. */
  readonly file: string;
  readonly tensor: string;
  /** Shard: with the CPU on the same inputs. Whole: with the whole model. */
  readonly against: 'cpu' | 'whole model';
  /** max |a - b| / max |b| */
  readonly error: number;
}

export interface Road {
  /** How many tensors were compared before the first that left, that one included. */
  readonly compared: number;
  readonly worst: Stone | null;
  readonly first: (Stone & { readonly operator: FirstWrong | null }) | null;
}

/** By name, what a rank holds whole, and what the whole model calls it: the model's outputs, and what ranks have joined or added up. */
type Names = ReadonlyMap<string, string>;

const namesOf = ({ outputs, ranks }: Profile): readonly Names[] =>
  ranks.map(
    ({ whole = {} }) => new Map([...outputs.map(({ name }) => [name, name] as const), ...Object.entries(whole)]),
  );

const madeBy = ({ graph }: ModelProto): readonly string[] => graph?.node.flatMap(({ output }) => output) ?? [];

const untyped = (name: string): ReturnType<typeof createValueInfo> => {
  const { type: _, ...rest } = createValueInfo(name, 0, undefined);
  return rest as ReturnType<typeof createValueInfo>;
};

/** The graph with further tensors of its own as outputs. */
const withOutputs = (model: ModelProto, isWanted: (name: string) => boolean): Uint8Array => {
  const graph = model.graph ?? createGraph({});
  const own = new Set(graph.output.map(({ name }) => name));
  const more = [...new Set(madeBy(model))].filter((name) => name !== '' && !own.has(name) && isWanted(name));
  const output = [...graph.output, ...more.map(untyped)];
  return encodeModel(createModel({ ...model, graph: createGraph({ ...graph, output }) }));
};

const runOnce = async (session: LocalSession, inputs: Tensors): Promise<Tensors> => {
  try {
    return await session.run(inputs);
  } finally {
    await session.dispose();
  }
};

/** Runs a graph on the CPU, and gives out more of it. */
const runWith = async (path: string, model: ModelProto, isWanted: (name: string) => boolean, feeds: Tensors) => {
  const session = await openSession(withOutputs(model, isWanted), {
    provider: 'cpu',
    optimization: 'basic',
    // Where its weights are: bytes have no folder.
    entries: { 'session.model_external_initializers_file_folder_path': dirname(path) },
  });
  return runOnce(session, feeds);
};

class Walk {
  readonly #request: RoadRequest;
  readonly #whole: Tensors;
  /** By rank. */
  readonly #names: readonly Names[];
  readonly #values: Map<string, HostTensor>[];
  #compared = 0;
  #worst: Stone | null = null;

  constructor(request: RoadRequest, whole: Tensors) {
    this.#request = request;
    this.#whole = whole;
    this.#names = namesOf(request.profile);
    this.#values = request.devices.map(() => new Map(Object.entries(request.inputs)));
  }

  async go(): Promise<Road> {
    const { profile, devices, onProgress } = this.#request;
    const count = Math.max(...profile.ranks.map(({ segments }) => segments.length));
    for (let index = 0; index < count; index++) {
      onProgress?.(index, count);
      for (const rank of devices.keys()) {
        const first = await this.#step(rank, index);
        if (first) return { compared: this.#compared, worst: this.#worst, first };
      }
      this.#exchange(index);
    }
    onProgress?.(count, count);
    return { compared: this.#compared, worst: this.#worst, first: null };
  }

  #entry(rank: number, index: number): SegmentEntry | undefined {
    return this.#request.profile.ranks[rank]?.segments[index];
  }

  async #step(rank: number, index: number): Promise<Road['first']> {
    const { devices, tolerance } = this.#request;
    const [device, entry] = [devices[rank], this.#entry(rank, index)];
    if (device === undefined || entry === undefined) return null;
    const feeds = Object.fromEntries(entry.inputs.map((name) => [name, this.#value(rank, name)]));
    const made = await this.#run(rank, entry, device, feeds);
    for (const [name, tensor] of Object.entries(made)) this.#values[rank]?.set(name, tensor);
    const path = join(this.#request.directory, entry.file);
    const isWhole = (name: string): boolean => this.#names[rank]?.has(name) === true;
    const expected = await runWith(path, decodeModel(await readFile(path)), isWhole, feeds);
    const wrong = this.#againstCpu(rank, entry, made, expected);
    if (wrong) return { ...wrong, operator: (await findFirstWrong(path, feeds, device, tolerance)) ?? null };
    const left = this.#againstWhole(rank, entry, { ...expected, ...made });
    return left ? { ...left, operator: null } : null;
  }

  #value(rank: number, name: string): HostTensor {
    const value = this.#values[rank]?.get(name);
    if (value !== undefined) return value;
    throw new TandemError('SEGMENT_INPUT', `Tensor "${name}" is not there; it was never made.`);
  }

  /** As a worker opens it. */
  async #run(rank: number, { file }: SegmentEntry, device: RoadDevice, feeds: Tensors): Promise<Tensors> {
    const path = join(this.#request.directory, file);
    const isPrepared = this.#request.manifest.ranks[rank]?.prepared !== undefined;
    const opening = isPrepared ? openOptimised(path, device) : openSession(path, { ...device, optimization: 'all' });
    return runOnce(await opening, feeds);
  }

  #againstCpu(rank: number, entry: SegmentEntry, made: Tensors, expected: Tensors): Stone | null {
    if (this.#request.devices[rank]?.provider === 'cpu') return null;
    const stone = { rank, file: entry.file, against: 'cpu' } as const;
    for (const [name, tensor] of Object.entries(made)) {
      const found = this.#note(stone, name, tensor, expected[name]);
      if (found) return found;
    }
    return null;
  }

  #againstWhole(rank: number, entry: SegmentEntry, made: Tensors): Stone | null {
    const stone = { rank, file: entry.file, against: 'whole model' } as const;
    for (const [name, tensor] of Object.entries(made)) {
      const expected = this.#whole[this.#names[rank]?.get(name) ?? ''];
      const isSame = expected?.dtype === tensor.dtype && expected.shape.join() === tensor.shape.join();
      const found = isSame ? this.#note(stone, name, tensor, expected) : null;
      if (found) return found;
    }
    return null;
  }

  /** @returns it, where it has left the road */
  #note(
    stone: Omit<Stone, 'tensor' | 'error'>,
    tensor: string,
    found: HostTensor | undefined,
    expected: HostTensor | undefined,
  ): Stone | null {
    if (found === undefined || expected === undefined) return null;
    const error = compareOutputs({ [tensor]: found }, { [tensor]: expected }).max_rel_error;
    const noted = { ...stone, tensor, error };
    this.#compared += 1;
    if (this.#worst === null || error > this.#worst.error) this.#worst = noted;
    return error > this.#request.tolerance ? noted : null;
  }

  #exchange(index: number): void {
    for (const rank of this.#request.devices.keys()) {
      const entry = this.#entry(rank, index);
      for (const { name, from, tensor } of entry?.receives ?? [])
        this.#values[rank]?.set(name, this.#value(from, tensor));
    }
    for (const rank of this.#request.devices.keys()) {
      for (const name of this.#entry(rank, index)?.release ?? []) this.#values[rank]?.delete(name);
    }
  }
}

/** What the whole model makes of the inputs: everything that its graph names; ranks may have joined or added up any of it. */
const wholeTensors = async ({ model: path, profile, directory, inputs }: RoadRequest): Promise<Tensors> => {
  const all = namesOf(profile);
  const files = profile.ranks.flatMap(({ segments }, rank) => segments.map(({ file }) => ({ file, names: all[rank] })));
  const wanted = new Set<string>();
  for (const { file, names } of files)
    for (const made of madeBy(decodeModel(await readFile(join(directory, file))))) wanted.add(names?.get(made) ?? '');
  return runWith(path, decodeModel(await readFile(path)), (name) => wanted.has(name), inputs);
};

/**
 * Walks until the first tensor that has left the road, or to the end. Segments are opened one after the other, so that a rank needs
 * the memory of one of them, and the whole model's is free again.
 * @throws whatever ONNX Runtime says of a graph, as an `Error`
 */
export const followRoad = async (request: RoadRequest): Promise<Road> =>
  new Walk(request, await wholeTensors(request)).go();
