/**
 * What a network's prediction says of the denoised sample and of the noise. A sample is `alpha * denoised + sigma * noise`
 * where the process preserves variance, and `denoised + sigma * noise` where it is reckoned in sigmas alone.
 */
import { z } from 'zod';
import { f32, linearCombination, zipWith } from './float32.js';

/** What the network was trained to predict; each class has the ones that diffusers gives it. */
export const noiseOrVelocity = z.enum(['epsilon', 'v_prediction']).default('epsilon');
export const predictionType = z.enum(['epsilon', 'sample', 'v_prediction']).default('epsilon');
export const anyPredictionType = z.enum(['epsilon', 'sample', 'v_prediction', 'flow_prediction']).default('epsilon');
export type PredictionType = z.infer<typeof anyPredictionType>;

/** Shares of signal and noise in a sample. */
export interface Scales {
  readonly alpha: number;
  readonly sigma: number;
}

/** Scales at a training timestep, from its cumulative alpha product. */
export const scalesOf = (alphaProduct: number): Scales => ({
  alpha: f32(Math.sqrt(alphaProduct)),
  sigma: f32(Math.sqrt(f32(1 - alphaProduct))),
});

/** The denoised sample (v: arXiv 2202.00512, section 4). */
export const denoised = (
  type: PredictionType,
  output: Float32Array,
  sample: Float32Array,
  { alpha, sigma }: Scales,
): Float32Array => {
  switch (type) {
    case 'epsilon':
      return zipWith(sample, output, (x, noise) => f32(x - f32(sigma * noise)) / alpha);
    case 'sample':
      return output;
    case 'v_prediction':
      return linearCombination(alpha, sample, -sigma, output);
    case 'flow_prediction':
      return zipWith(sample, output, (x, velocity) => x - f32(sigma * velocity));
    default:
      return type satisfies never;
  }
};

/** The noise in a sample of which the denoised part is known. */
export const noiseBeside = (original: Float32Array, sample: Float32Array, { alpha, sigma }: Scales): Float32Array =>
  zipWith(sample, original, (x, x0) => f32(x - f32(alpha * x0)) / sigma);

/** The noise. */
export const noiseIn = (
  type: Exclude<PredictionType, 'flow_prediction'>,
  output: Float32Array,
  sample: Float32Array,
  scales: Scales,
): Float32Array => {
  switch (type) {
    case 'epsilon':
      return output;
    case 'sample':
      return noiseBeside(output, sample, scales);
    case 'v_prediction':
      return linearCombination(scales.alpha, output, scales.sigma, sample);
    default:
      return type satisfies never;
  }
};

/** The denoised sample, reckoned in sigmas (arXiv 2206.00364, table 1). */
export const denoisedInSigmas = (
  type: PredictionType,
  output: Float32Array,
  sample: Float32Array,
  sigma: number,
): Float32Array => {
  switch (type) {
    case 'epsilon':
    case 'flow_prediction':
      return zipWith(sample, output, (x, noise) => x - f32(sigma * noise));
    case 'sample':
      return output;
    case 'v_prediction': {
      const variance = f32(f32(sigma * sigma) + 1);
      const factor = f32(-sigma / f32(Math.sqrt(variance)));
      return zipWith(sample, output, (x, velocity) => f32(velocity * factor) + f32(x / variance));
    }
    default:
      return type satisfies never;
  }
};
