/** `/v1/models`, as OpenAI's clients ask for it. */
import { z } from 'zod';
import { modelNotFound } from '../errors.js';
import type { ServerParts, TypedApp } from '../route-context.js';

const model = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.number().int(),
  owned_by: z.string(),
  /** Beyond OpenAI's fields: which model exactly, and what a request may ask for. */
  version: z.string().nullable().describe("Digest of the denoiser's graph and weights; null while it is loading"),
  size: z.string().describe('The default one'),
  size_multiple: z.number().int().describe('Pixels of which the sides of other sizes must be multiples'),
  sizes: z.array(z.string()).describe('Loaded or prepared'),
  other_sizes: z.boolean().describe('Whether others can be asked for; the first picture of one takes a while'),
  examples: z
    .array(z.string())
    .describe('Prompts that the model draws well, where its directory has a list of what it knows'),
  num_inference_steps: z.number().int(),
  guidance_scale: z.number(),
});

export const addModelRoutes = (app: TypedApp, { served, size, sizes, startedAt, engine }: ServerParts): void => {
  const only = (): z.infer<typeof model> => ({
    id: served.model,
    object: 'model',
    created: startedAt,
    owned_by: 'tandem',
    version: engine.version ?? null,
    size,
    size_multiple: served.sizeMultiple,
    other_sizes: served.otherSizes,
    sizes: [...new Set([...sizes.loaded.map((loaded) => loaded.size), ...served.preparedSizes])],
    examples: [...served.examples],
    num_inference_steps: served.defaults.numInferenceSteps,
    guidance_scale: served.defaults.guidanceScale,
  });
  app.get(
    '/v1/models',
    {
      schema: {
        summary: 'The served model, as a list of one',
        operationId: 'listModels',
        response: { 200: z.object({ object: z.literal('list'), data: z.array(model) }) },
      },
    },
    async () => ({ object: 'list' as const, data: [only()] }),
  );
  app.get(
    '/v1/models/:model',
    {
      schema: {
        summary: 'The served model',
        operationId: 'getModel',
        params: z.object({ model: z.string() }),
        response: { 200: model },
      },
    },
    async ({ params }) => {
      if (params.model !== served.model) throw modelNotFound(params.model, served.model);
      return only();
    },
  );
};
