/** Classifier-free guidance, in the network's output or as an embedding that the network is given. */
import { f32, zipWith } from './schedulers/float32.js';

/** Moves the prediction away from the unconditional one (arXiv 2207.12598, equation 6, in diffusers' parametrisation). */
export const applyGuidance = (unconditional: Float32Array, conditional: Float32Array, scale: number): Float32Array => {
  const factor = f32(scale);
  return zipWith(
    unconditional,
    conditional,
    (without, withPrompt) => without + f32(factor * f32(withPrompt - without)),
  );
};

/** Longest period of the embedding's waves. */
const MAX_PERIOD = 10_000;

/**
 * The sinusoidal embedding of a guidance scale that distilled models take in place of a second pass (arXiv 2310.04378,
 * section 4.2; `get_guidance_scale_embedding` in diffusers).
 * @returns `[size]`: sines, then cosines, then a zero where `size` is odd
 */
export const guidanceEmbedding = (scale: number, size: number): Float32Array => {
  const half = Math.floor(size / 2);
  const step = f32(f32(Math.log(MAX_PERIOD)) / (half - 1));
  const position = f32((scale - 1) * 1000);
  const embedding = new Float32Array(size);
  for (let index = 0; index < half; index++) {
    const angle = f32(position * f32(Math.exp(-f32(index * step))));
    embedding[index] = Math.sin(angle);
    embedding[index + half] = Math.cos(angle);
  }
  return embedding;
};
