/** What is served, decided before anything long begins. */
import type { ClusterConfig, PictureSize } from '../config/index.js';
import { type PlannedModel, planModel, planPicture } from '../generate/picture.js';
import { planHosting } from '../hosting/index.js';
import { readKnownWords } from '../pipeline/index.js';
import type { Dims } from '../shards/dims.js';
import { findDenoiserModel } from '../shards/model.js';
import type { PipelineRequest } from './engine.js';
import type { Served } from './image-body.js';

export interface ServingPlan {
  readonly planned: PlannedModel;
  readonly served: Served;
  /** Absent for a bare `.onnx` file. */
  readonly pipeline?: PipelineRequest;
}

const MAX_EXAMPLES = 8;

/** Some from all over what the model knows, where it has a list of that. */
const examplesOf = async (directory: string): Promise<readonly string[]> => {
  const { examples } = (await readKnownWords(directory)) ?? { examples: [] };
  const every = Math.ceil(examples.length / MAX_EXAMPLES);
  return examples.filter((_, index) => index % every === 0);
};

/**
 * @param size of the pictures; the config's default where absent
 * @throws TandemError as `planPicture` and `planModel`
 */
export const planServing = async (
  config: ClusterConfig,
  dims: Dims | undefined,
  size?: PictureSize,
): Promise<ServingPlan> => {
  if (findDenoiserModel(config.model).directory === undefined) {
    const planned = await planModel(config, dims);
    // It makes no pictures, so nobody can ask it for any steps.
    const defaults = { numInferenceSteps: 1, guidanceScale: 0 };
    const { name } = planned.model;
    return {
      planned,
      served: {
        model: name,
        width: 0,
        height: 0,
        sizeMultiple: 1,
        otherSizes: false,
        preparedSizes: [],
        examples: [],
        defaults,
      },
    };
  }
  const picture = await planPicture(config, { ...size, ...(dims === undefined ? {} : { dims }) });
  // Better said at the start than when they are asked for.
  for (const prepared of config.sizes) await planPicture(config, prepared);
  const networks = await planHosting(config, picture);
  const { model, directory, width, height, scheduler, numInferenceSteps, guidanceScale } = picture;
  const defaults = { numInferenceSteps, guidanceScale };
  const pipeline = { directory, width, height, networks, ...(scheduler === undefined ? {} : { scheduler }) };
  const served = {
    model: model.name,
    width,
    height,
    sizeMultiple: picture.sizeMultiple,
    // Dims that were fixed by hand fit one size.
    otherSizes: config.residentSizes > 0 && Object.keys(dims ?? {}).length === 0,
    preparedSizes: config.sizes.map((prepared) => `${prepared.width}x${prepared.height}`),
    examples: await examplesOf(directory),
    defaults,
  };
  return { planned: { ...picture, networks }, served, pipeline };
};
