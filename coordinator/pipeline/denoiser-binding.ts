/**
 * Feeds a denoiser of whatever exporter: finds its inputs by name, casts to its types, and runs classifier-free guidance
 * in one call or two, by the batch that it was opened for.
 */
import type { DType, HostTensor, TensorSpec } from '../../partition/tensor.js';
import type { Denoiser } from '../denoiser.js';
import { EMBEDDINGS_INPUT, elementsPerImage, GUIDANCE_INPUT, SAMPLE_INPUTS, TIMESTEP_INPUT } from './denoiser-sizes.js';
import { modelInputsError } from './errors.js';
import { concatenateBatch, toFloat32, toHostTensor } from './host-tensor.js';

/** One prediction's inputs. `embeddings` has the unconditional prompt first where there is guidance. */
export interface PredictionRequest {
  /** One image's latents, scaled for the network: `[channels * height * width]`. */
  readonly sample: Float32Array;
  readonly timestep: number;
  /** Each `[sequence * width]`, one per prompt. */
  readonly embeddings: readonly Float32Array[];
  /** `[time_cond_proj_dim]`, for models with a guidance embedding. */
  readonly guidanceEmbedding?: Float32Array;
}

export interface DenoiserBinding {
  readonly batch: number;
  /** `[channels, height, width]` of one image's latents. */
  readonly latentShape: readonly [number, number, number];
  /** `[sequence, width]` of one prompt's embeddings. */
  readonly embeddingShape: readonly number[];
  /** Whether timesteps are fed as whole numbers. */
  readonly wholeTimesteps: boolean;
  /** Width of the guidance embedding; absent where the model has none. */
  readonly guidanceEmbeddingSize?: number;
  /** One prediction per prompt, each in the shape of `sample`. */
  predict(request: PredictionRequest): Promise<readonly Float32Array[]>;
}

/** Inputs of pipelines that are not supported yet, so that a message can say whose they are. */
const KNOWN_ELSEWHERE: Readonly<Record<string, string>> = {
  text_embeds: 'SDXL',
  time_ids: 'SDXL',
  added_time_ids: 'Stable Video Diffusion',
  pooled_projections: 'SD3 and FLUX',
  guidance: 'FLUX',
  img_ids: 'FLUX',
  txt_ids: 'FLUX',
  encoder_attention_mask: 'PixArt',
  resolution: 'PixArt',
  aspect_ratio: 'PixArt',
};

const FLOATS: readonly DType[] = ['float32', 'float16', 'float64'];
const WHOLE: readonly DType[] = ['int64', 'int32'];

interface Inputs {
  readonly sample: TensorSpec;
  readonly timestep: TensorSpec;
  readonly embeddings: TensorSpec;
  readonly guidance: TensorSpec | undefined;
}

const unknownInput = ({ name }: TensorSpec): string => {
  const family = KNOWN_ELSEWHERE[name];
  const whose =
    family === undefined ? 'which no supported model has' : `which belongs to ${family} models, not supported yet`;
  return `It has the input "${name}", ${whose}.`;
};

const checkType = (spec: TensorSpec, types: readonly DType[]): string[] =>
  types.includes(spec.dtype) ? [] : [`The input "${spec.name}" is ${spec.dtype}; expected ${types.join(', ')}.`];

const checkShapes = ({ sample, timestep, embeddings }: Inputs): string[] => {
  const batch = sample.shape[0] ?? 0;
  return [
    ...(sample.shape.length === 4
      ? []
      : [`The input "${sample.name}" has ${sample.shape.length} axes; expected [batch, channels, height, width].`]),
    ...(batch === 1 || batch === 2
      ? []
      : [`It was opened for a batch of ${batch}; expected 1 or 2 (one image, with or without guidance).`]),
    ...(embeddings.shape.length === 3 && embeddings.shape[0] === batch
      ? []
      : [
          `The input "${embeddings.name}" has the shape [${embeddings.shape.join(', ')}]; expected [${batch}, sequence, width].`,
        ]),
    ...(timestep.shape.length <= 1
      ? []
      : [`The input "timestep" has ${timestep.shape.length} axes; expected none or one.`]),
    ...checkType(sample, FLOATS),
    ...checkType(embeddings, FLOATS),
    ...checkType(timestep, [...FLOATS, ...WHOLE]),
  ];
};

/** Finds the inputs by name. @throws TandemError `MODEL_INPUTS` with all that is missing or not known */
const findInputs = (denoiser: Denoiser): Inputs => {
  const find = (names: readonly string[]): TensorSpec | undefined =>
    denoiser.inputs.find(({ name }) => names.includes(name));
  const sample = find(SAMPLE_INPUTS);
  const timestep = find([TIMESTEP_INPUT]);
  const embeddings = find([EMBEDDINGS_INPUT]);
  const guidance = find([GUIDANCE_INPUT]);
  const problems = denoiser.inputs
    .filter((input) => ![sample, timestep, embeddings, guidance].includes(input))
    .map(unknownInput);
  if (sample === undefined) problems.push(`It has no input called ${SAMPLE_INPUTS.join(' or ')}.`);
  if (timestep === undefined) problems.push(`It has no input called ${TIMESTEP_INPUT}.`);
  if (embeddings === undefined) problems.push(`It has no input called ${EMBEDDINGS_INPUT}.`);
  if (sample === undefined || timestep === undefined || embeddings === undefined || problems.length > 0)
    throw modelInputsError('denoiser', problems);
  const inputs: Inputs = { sample, timestep, embeddings, guidance };
  const mismatches = checkShapes(inputs);
  if (mismatches.length > 0) throw modelInputsError('denoiser', mismatches);
  return inputs;
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

/** The same values in every row of a batch. */
const repeated = (values: Float32Array, spec: TensorSpec): HostTensor => {
  const [batch = 1, ...rest] = spec.shape;
  const row = toHostTensor(values, spec.dtype, [1, ...rest]);
  return concatenateBatch(Array<HostTensor>(batch).fill(row));
};

/** One prompt per row; a single prompt fills every row. */
const stacked = (rows: readonly Float32Array[], spec: TensorSpec): HostTensor => {
  const [batch = 1, ...rest] = spec.shape;
  const tensors = rows.map((row) => toHostTensor(row, spec.dtype, [1, ...rest]));
  const [only] = tensors;
  return concatenateBatch(tensors.length === 1 && only !== undefined ? Array<HostTensor>(batch).fill(only) : tensors);
};

/**
 * Binds a denoiser to the denoising loop.
 * @throws TandemError `MODEL_INPUTS` when an input is not known, missing, or of a type or shape that cannot be fed
 */
export const bindDenoiser = (denoiser: Denoiser): DenoiserBinding => {
  const inputs = findInputs(denoiser);
  const output = findOutput(denoiser, inputs.sample);
  const [batch = 1, channels = 0, height = 0, width = 0] = inputs.sample.shape;
  const wholeTimesteps = WHOLE.includes(inputs.timestep.dtype);
  const size = elementsPerImage(inputs.sample);

  const feedsOf = (request: PredictionRequest, embeddings: readonly Float32Array[]): Record<string, HostTensor> => {
    const { timestep, guidance } = inputs;
    const value = wholeTimesteps ? Math.round(request.timestep) : request.timestep;
    return {
      [inputs.sample.name]: repeated(request.sample, inputs.sample),
      [timestep.name]: toHostTensor(Array<number>(timestep.shape[0] ?? 1).fill(value), timestep.dtype, timestep.shape),
      [inputs.embeddings.name]: stacked(embeddings, inputs.embeddings),
      ...(guidance && request.guidanceEmbedding
        ? { [guidance.name]: repeated(request.guidanceEmbedding, guidance) }
        : {}),
    };
  };

  /** Predictions of one call, one per row of the batch. */
  const call = async (request: PredictionRequest, embeddings: readonly Float32Array[]): Promise<Float32Array[]> => {
    const outputs = await denoiser.step(feedsOf(request, embeddings));
    const tensor = outputs[output.name];
    if (tensor === undefined) throw modelInputsError('denoiser', [`It returned no output called "${output.name}".`]);
    const values = toFloat32(tensor);
    return embeddings.map((_, row) => values.subarray(row * size, (row + 1) * size));
  };

  return {
    batch,
    latentShape: [channels, height, width],
    embeddingShape: inputs.embeddings.shape.slice(1),
    wholeTimesteps,
    ...(inputs.guidance === undefined ? {} : { guidanceEmbeddingSize: inputs.guidance.shape[1] ?? 0 }),
    async predict(request) {
      if (request.embeddings.length <= batch) return call(request, request.embeddings);
      const predictions: Float32Array[] = [];
      for (const embedding of request.embeddings) predictions.push(...(await call(request, [embedding])));
      return predictions;
    },
  };
};
