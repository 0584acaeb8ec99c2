/** Keeping a denoised sample within bounds: dynamic thresholding (Imagen, arXiv 2205.11487, section 2.3), or clipping. */
import { z } from 'zod';
import { at } from './float32.js';

export const thresholdingKeys = {
  thresholding: z.boolean().nullable().default(false),
  dynamic_thresholding_ratio: z.number().positive().max(1).default(0.995),
  sample_max_value: z.number().positive().default(1),
} as const;

export const clippingKeys = { clip_sample_range: z.number().positive().default(1) } as const;

export interface BoundsConfig {
  readonly thresholding?: boolean | null;
  readonly dynamic_thresholding_ratio?: number;
  readonly sample_max_value?: number;
  readonly clip_sample?: boolean;
  readonly clip_sample_range?: number;
}

/** Quantile by linear interpolation between the two nearest values, as `torch.quantile` has it. */
const quantile = (ascending: Float32Array, ratio: number): number => {
  const rank = ratio * (ascending.length - 1);
  const low = at(ascending, Math.floor(rank));
  return low + (at(ascending, Math.ceil(rank)) - low) * (rank - Math.floor(rank));
};

const clipped = (values: Float32Array, bound: number): Float32Array =>
  values.map((value) => Math.min(bound, Math.max(-bound, value)));

/** The denoised sample within the bounds that the config asks for; itself where it asks for none. */
export const withinBounds = (config: BoundsConfig, original: Float32Array): Float32Array => {
  if (config.thresholding) {
    const magnitudes = original.map(Math.abs).sort();
    const spread = quantile(magnitudes, config.dynamic_thresholding_ratio ?? 0.995);
    const bound = Math.fround(Math.min(Math.max(spread, 1), config.sample_max_value ?? 1));
    return clipped(original, bound).map((value) => value / bound);
  }
  return config.clip_sample ? clipped(original, config.clip_sample_range ?? 1) : original;
};
