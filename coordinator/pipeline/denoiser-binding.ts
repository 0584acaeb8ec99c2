/**
 * Feeds a denoiser of whatever exporter: finds its inputs by name, casts to its types, and runs classifier-free guidance
 * as one batch or as two micro-batches, by the batch that it was opened for.
 */
import { elementCount, type HostTensor, type TensorSpec } from '../../common/tensor.js';
import type { Denoiser } from '../denoiser.js';
import { INPUTS, type InputRole, type InputRule, type InputValues, roleOf, WHOLE } from './denoiser-inputs.js';
import { modelInputsError } from './errors.js';
import type { Family } from './families/index.js';
import { concatenateBatch, toFloat32, toHostTensor } from './host-tensor.js';
import { fromLayout, type LatentShape, sampleShape, toLayout } from './latent-layout.js';

/** One prediction's inputs. */
export interface PredictionRequest {
  /** One image's latents, scaled for the network: `[channels * height * width]`. */
  readonly sample: Float32Array;
  readonly timestep: number;
  /** Each prompt's own inputs; the unconditional one comes first where there is guidance. */
  readonly prompts: readonly InputValues[];
  /** Inputs that all prompts have in common. */
  readonly shared?: InputValues;
  /** Ends the wait for the denoiser, where others use it too. */
  readonly signal?: AbortSignal | undefined;
}

export interface DenoiserBinding {
  readonly batch: number;
  /** One image's latents. */
  readonly latentShape: LatentShape;
  /** `[sequence, width]` of one prompt's embeddings. */
  readonly embeddingShape: readonly [number, number];
  /** Whether timesteps are fed as whole numbers. */
  readonly wholeTimesteps: boolean;
  /** The input of a role; undefined where the model has none. */
  input(role: InputRole): TensorSpec | undefined;
  /** One prediction per prompt, each in the shape of `sample`. */
  predict(request: PredictionRequest): Promise<readonly Float32Array[]>;
}

type Inputs = ReadonlyMap<InputRole, TensorSpec>;

const SAMPLE_AXES = {
  planes: '[batch, channels, height, width]',
  patches: '[batch, patches, channels]',
} as const;

const checkTypes = (inputs: Inputs): string[] =>
  [...inputs].flatMap(([role, { name, dtype }]) => {
    const { dtypes }: InputRule = INPUTS[role];
    return dtypes.includes(dtype) ? [] : [`The input "${name}" is ${dtype}; expected ${dtypes.join(', ')}.`];
  });

const checkShapes = (inputs: Inputs, family: Family): string[] => {
  const { layout, timestep, name, sequenceMultiple = 1 } = family;
  const sample = inputs.get('sample');
  const time = inputs.get('timestep');
  const embeddings = inputs.get('embeddings');
  if (sample === undefined || time === undefined || embeddings === undefined) return [];
  const batch = sample.shape[0] ?? 0;
  const axes = SAMPLE_AXES[layout];
  const scaled = WHOLE.includes(time.dtype) && !Number.isInteger(timestep(1));
  return [
    ...(sample.shape.length === axes.split(',').length
      ? []
      : [`The input "${sample.name}" has ${sample.shape.length} axes; expected ${axes}.`]),
    ...(batch === 1 || batch === 2
      ? []
      : [`It was opened for a batch of ${batch}; expected 1 or 2 (one image, with or without guidance).`]),
    ...(embeddings.shape.length === 3 && embeddings.shape[0] === batch
      ? []
      : [
          `The input "${embeddings.name}" has the shape [${embeddings.shape.join(', ')}]; expected [${batch}, sequence, width].`,
        ]),
    ...((embeddings.shape[1] ?? 0) % sequenceMultiple === 0
      ? []
      : [
          `It was opened for prompts of ${embeddings.shape[1]} tokens; ${name} models need a multiple of ${sequenceMultiple}.`,
        ]),
    ...(time.shape.length <= 1
      ? []
      : [`The input "${time.name}" has ${time.shape.length} axes; expected none or one.`]),
    ...(scaled ? [`The input "${time.name}" is ${time.dtype}; ${name} models have timesteps from 0 to 1.`] : []),
    ...checkTypes(inputs),
  ];
};

/** Finds the inputs by name. @throws TandemError `MODEL_INPUTS` with all that is missing or not known */
const findInputs = (denoiser: Denoiser, family: Family): Inputs => {
  const known = [...family.inputs, ...family.optionalInputs];
  const inputs = new Map<InputRole, TensorSpec>();
  const problems: string[] = [];
  for (const input of denoiser.inputs) {
    const role = roleOf(input.name);
    if (role !== undefined && known.includes(role)) inputs.set(role, input);
    else
      problems.push(
        `It has the input "${input.name}", which ${family.name} models do not have; check _class_name in model_index.json.`,
      );
  }
  for (const role of family.inputs)
    if (!inputs.has(role))
      problems.push(`It has no input called ${INPUTS[role].names.join(' or ')}, which ${family.name} models have.`);
  problems.push(...(problems.length > 0 ? [] : checkShapes(inputs, family)));
  if (problems.length > 0) throw modelInputsError('denoiser', problems);
  return inputs;
};

/** An input that every family has; `findInputs` has checked it. */
const specOf = (inputs: Inputs, role: InputRole): TensorSpec => {
  const spec = inputs.get(role);
  if (spec === undefined)
    throw modelInputsError('denoiser', [`It has no input called ${INPUTS[role].names.join(' or ')}.`]);
  return spec;
};

const findOutput = (denoiser: Denoiser, sample: TensorSpec): TensorSpec => {
  const [output] = denoiser.outputs;
  if (output === undefined) throw modelInputsError('denoiser', ['It has no output.']);
  if (output.shape.join() !== sample.shape.join())
    throw modelInputsError('denoiser', [
      `Its output "${output.name}" has the shape [${output.shape.join(', ')}]; expected that of "${sample.name}", [${sample.shape.join(', ')}].`,
    ]);
  return output;
};

type Row = Float32Array | readonly number[];

/** One row a prompt; a single one fills every row of the batch, or all of an input that has no batch. */
const filled = (rows: readonly Row[], spec: TensorSpec): HostTensor => {
  const [first = []] = rows;
  const count = elementCount(spec.shape);
  if (first.length === count) return toHostTensor(first, spec.dtype, spec.shape);
  const batch = count / first.length;
  if (!Number.isInteger(batch) || (rows.length > 1 && rows.length !== batch))
    throw modelInputsError('denoiser', [
      `The input "${spec.name}" has the shape [${spec.shape.join(', ')}], but ${rows.length} times ${first.length} values are there for it; open the denoiser for other sizes.`,
    ]);
  const tensors = rows.map((row) => toHostTensor(row, spec.dtype, [1, row.length]));
  const [only] = tensors;
  const whole = tensors.length === 1 && only !== undefined ? Array<HostTensor>(batch).fill(only) : tensors;
  return { ...concatenateBatch(whole), shape: spec.shape };
};

const latentShapeOf = (sample: TensorSpec, family: Family, given: LatentShape | undefined): LatentShape => {
  const [batch = 1, channels = 0, height = 0, width = 0] = sample.shape;
  if (family.layout === 'planes') return [channels, height, width];
  if (given === undefined)
    throw modelInputsError('denoiser', [
      `${family.name} models take latents without width and height; open the pipeline with a size.`,
    ]);
  const [ofChannels, ofHeight, ofWidth] = given;
  const size = {
    batch,
    channels: ofChannels,
    height: ofHeight,
    width: ofWidth,
    sequenceLength: 0,
    layout: family.layout,
  };
  const expected = sampleShape(size);
  if (expected.join() !== sample.shape.join())
    throw modelInputsError('denoiser', [
      `The input "${sample.name}" has the shape [${sample.shape.join(', ')}]; expected [${expected.join(', ')}] for latents of [${given.join(', ')}].`,
    ]);
  return given;
};

/**
 * Binds a denoiser to the denoising loop.
 * @param latentShape needed where the denoiser's input does not say it
 * @throws TandemError `MODEL_INPUTS` when an input is not known, missing, or of a type or shape that cannot be fed
 */
export const bindDenoiser = (denoiser: Denoiser, family: Family, latentShape?: LatentShape): DenoiserBinding => {
  const inputs = findInputs(denoiser, family);
  const sample = specOf(inputs, 'sample');
  const timestep = specOf(inputs, 'timestep');
  const [, sequence = 0, width = 0] = specOf(inputs, 'embeddings').shape;
  const output = findOutput(denoiser, sample);
  const shape = latentShapeOf(sample, family, latentShape);
  const [batch = 1] = sample.shape;
  const size = elementCount(shape);
  const wholeTimesteps = WHOLE.includes(timestep.dtype);

  const valuesOf = (role: InputRole, request: PredictionRequest, prompts: readonly InputValues[]): readonly Row[] => {
    switch (role) {
      case 'sample':
        return [toLayout(family.layout, request.sample, shape)];
      case 'timestep': {
        const value = family.timestep(request.timestep);
        return [[wholeTimesteps ? Math.round(value) : value]];
      }
      default: {
        const shared = request.shared?.[role];
        return shared === undefined ? prompts.map((prompt) => prompt[role] ?? []) : [shared];
      }
    }
  };

  const toPrediction = (values: Float32Array): Float32Array => {
    const prediction = fromLayout(family.layout, values, shape);
    return family.sign === 1 ? prediction : prediction.map((value) => -value);
  };

  const feedsOf = (request: PredictionRequest, prompts: readonly InputValues[]) =>
    Object.fromEntries(
      [...inputs].map(([role, spec]) => [spec.name, filled(valuesOf(role, request, prompts), spec)] as const),
    );

  /** The first rows of the batch. */
  const predictionsOf = (outputs: Readonly<Record<string, HostTensor>>, count: number): Float32Array[] => {
    const tensor = outputs[output.name];
    if (tensor === undefined) throw modelInputsError('denoiser', [`It returned no output called "${output.name}".`]);
    const values = toFloat32(tensor);
    return Array.from({ length: count }, (_, row) => toPrediction(values.subarray(row * size, (row + 1) * size)));
  };

  return {
    batch,
    latentShape: shape,
    embeddingShape: [sequence, width],
    wholeTimesteps,
    input: (role) => inputs.get(role),
    async predict(request) {
      const { prompts, signal } = request;
      if (prompts.length <= batch)
        return predictionsOf(await denoiser.step(feedsOf(request, prompts), signal), prompts.length);
      const each = prompts.map((prompt) => feedsOf(request, [prompt]));
      const outputs = await denoiser.stepEach(each, signal);
      return outputs.flatMap((one) => predictionsOf(one, 1));
    },
  };
};
