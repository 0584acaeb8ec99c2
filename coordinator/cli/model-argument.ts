/**
 * The MODEL argument of `plan`, `partition` and `verify`, and the sizes that it is opened for. A cluster config names its model
 * itself; of a model directory the default picture decides the sizes, as it does under `generate`, so that only a single `.onnx`
 * file needs a `--dim` for each symbolic dim.
 */
import type { TensorMetadata } from '../../common/onnxruntime.js';
import { type ClusterSettings, readUncalibratedConfig } from '../config/index.js';
import { pictureDims } from '../generate/picture.js';
import { type Dims, requireDims, symbolicNames } from '../shards/dims.js';
import { type DenoiserModel, findDenoiserModel } from '../shards/model.js';
import { type DeviceOptions, usageError } from './options.js';

/** Whether a MODEL argument is a cluster config. */
export const isConfigFile = (argument: string): boolean => /\.ya?ml$/i.test(argument);

export interface Described<T> {
  readonly model: DenoiserModel;
  /** With the config that was given in place of a model. */
  readonly options: T;
}

/** @throws TandemError `USAGE` where two configs are given; as `findDenoiserModel` and `readUncalibratedConfig` */
export const describeModel = async <T extends DeviceOptions>(argument: string, options: T): Promise<Described<T>> => {
  if (!isConfigFile(argument)) return { model: findDenoiserModel(argument), options };
  if (options.config !== undefined) throw usageError(`Expected a model beside --config; found the config ${argument}.`);
  const { model } = await readUncalibratedConfig(argument);
  return { model: findDenoiserModel(model), options: { ...options, config: argument } };
};

/**
 * Sizes of all symbolic dims: those that are given, and for the rest those of the default picture.
 * @throws TandemError `DIMS_OPEN`; as `pictureDims`
 */
export const sizesOf = async (
  model: DenoiserModel,
  inputs: readonly TensorMetadata[],
  given: Dims,
  { defaults = {}, mesh }: Pick<ClusterSettings, 'defaults' | 'mesh'>,
  onNotice?: (message: string) => void,
): Promise<Dims> => {
  const open = symbolicNames(inputs).filter((name) => given[name] === undefined);
  if (model.directory === undefined || open.length === 0) return requireDims(inputs, given);
  const { dims, width, height } = await pictureDims(model.directory, inputs, { defaults, ...(mesh ? { mesh } : {}) });
  const all = requireDims(inputs, { ...dims, ...given });
  const told = Object.entries(all).map(([name, size]) => `${name}=${size}`);
  onNotice?.(`Sized for a picture of ${width}x${height}: ${told.join(' ')}. --dim NAME=SIZE changes one.`);
  return all;
};
