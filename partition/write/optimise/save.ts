/** How optimised segments are made: ONNX Runtime optimises a graph and saves it. */
import { openSession, type Provider } from '../../../common/onnxruntime.js';
import { INLINE_LIMIT_BYTES } from '../../read/skeleton.js';
import { sumsAreExact } from './integer-sums.js';

export interface OptimisedFiles {
  /** Where the graph goes. */
  readonly graph: string;
  /** File name, beside it, for weights that are too large for the graph; all are in the graph where absent. */
  readonly weights?: string;
}

const externalWeights = (file: string): Readonly<Record<string, string>> => ({
  'session.optimized_model_external_initializers_file_name': file,
  'session.optimized_model_external_initializers_min_size_in_bytes': String(INLINE_LIMIT_BYTES),
});

/** Makes int8 weights uint8, whose products every processor adds up exactly, but most of them more slowly. */
const UNSIGNED_WEIGHTS = { 'session.x64quantprecision': '1' };

/**
 * Optimises a graph for a provider and saves it.
 * @param model a graph's file, or its bytes
 * @param exactSums whether the processor adds up products of int8 weights exactly; it is asked where this is absent
 * @throws whatever ONNX Runtime says of the graph, as an `Error`
 */
export const saveOptimised = async (
  model: string | Uint8Array,
  provider: Provider,
  { graph, weights }: OptimisedFiles,
  exactSums?: boolean,
): Promise<void> => {
  const signed = exactSums ?? (await sumsAreExact());
  const session = await openSession(model, {
    provider,
    threads: 1,
    optimization: 'all',
    optimizedModelPath: graph,
    entries: {
      ...(weights === undefined ? {} : externalWeights(weights)),
      ...(signed ? {} : UNSIGNED_WEIGHTS),
      // The graph is only saved: packed copies of its weights would cost time and memory for nothing.
      'session.disable_prepacking': '1',
    },
  });
  await session.dispose();
};
