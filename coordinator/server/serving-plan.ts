/** What is served, decided before anything long begins. */
import type { ClusterConfig } from '../config/index.js';
import { type PlannedModel, planModel, planPicture } from '../generate/picture.js';
import { planHosting } from '../hosting/index.js';
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

/** @throws TandemError as `planPicture` and `planModel` */
export const planServing = async (config: ClusterConfig, dims: Dims | undefined): Promise<ServingPlan> => {
  if (findDenoiserModel(config.model).directory === undefined) {
    const planned = await planModel(config, dims);
    // It makes no pictures, so nobody can ask it for any steps.
    const defaults = { numInferenceSteps: 1, guidanceScale: 0 };
    return { planned, served: { model: planned.model.name, width: 0, height: 0, defaults } };
  }
  const picture = await planPicture(config, dims === undefined ? {} : { dims });
  const networks = await planHosting(config, picture);
  const { model, directory, width, height, scheduler, numInferenceSteps, guidanceScale } = picture;
  const defaults = { numInferenceSteps, guidanceScale };
  const pipeline = { directory, width, height, networks, ...(scheduler === undefined ? {} : { scheduler }) };
  return { planned: { ...picture, networks }, served: { model: model.name, width, height, defaults }, pipeline };
};
