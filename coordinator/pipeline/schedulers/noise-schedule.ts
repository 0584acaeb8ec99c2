/**
 * The forward process that diffusion models are trained with: betas, and the cumulative products of `1 - beta` from which
 * every solver's coefficients come (DDPM, arXiv 2006.11239). Values are float32 as in diffusers.
 */
import { z } from 'zod';
import { at, f32 } from './float32.js';

/** The keys of scheduler_config.json that describe the forward process, common to all schedulers but flow matching. */
export const noiseScheduleKeys = {
  num_train_timesteps: z.number().int().positive().default(1000),
  beta_start: z.number().positive().default(0.0001),
  beta_end: z.number().positive().default(0.02),
  beta_schedule: z.enum(['linear', 'scaled_linear', 'squaredcos_cap_v2']).default('linear'),
  trained_betas: z.array(z.number()).min(2).nullable().default(null),
  rescale_betas_zero_snr: z.boolean().default(false),
} as const;

const noiseScheduleConfig = z.object(noiseScheduleKeys);
export type NoiseScheduleConfig = z.infer<typeof noiseScheduleConfig>;

/** Largest beta of the cosine schedule, against a singular end (arXiv 2102.09672, section 3.2). */
const MAX_BETA = 0.999;

/**
 * The sigma that stands for an infinite one: that of an alpha product of 2^-24, the smallest subnormal of float16. It is
 * sqrt(2^24 - 1), which PyTorch's float32 square root rounds up.
 */
const LARGEST_SIGMA = 2 ** 12;

/** Evenly spaced float32 values, built from both ends towards the middle, as `torch.linspace` does. */
const linspaceFloat32 = (start: number, stop: number, count: number): Float32Array => {
  const first = f32(start);
  const last = f32(stop);
  const step = f32(f32(last - first) / (count - 1));
  return Float32Array.from({ length: count }, (_, index) =>
    index < count / 2 ? first + step * index : last - step * (count - 1 - index),
  );
};

const cosineAlphaBar = (time: number): number => Math.cos((((time + 0.008) / 1.008) * Math.PI) / 2) ** 2;

const cosineBetas = (count: number): Float32Array =>
  Float32Array.from({ length: count }, (_, index) =>
    Math.min(1 - cosineAlphaBar((index + 1) / count) / cosineAlphaBar(index / count), MAX_BETA),
  );

const betasOf = (config: NoiseScheduleConfig): Float32Array => {
  if (config.trained_betas !== null) return Float32Array.from(config.trained_betas);
  const { beta_start, beta_end, num_train_timesteps } = config;
  switch (config.beta_schedule) {
    case 'linear':
      return linspaceFloat32(beta_start, beta_end, num_train_timesteps);
    case 'scaled_linear':
      return linspaceFloat32(Math.sqrt(beta_start), Math.sqrt(beta_end), num_train_timesteps).map(
        (root) => root * root,
      );
    case 'squaredcos_cap_v2':
      return cosineBetas(num_train_timesteps);
    default:
      return config.beta_schedule satisfies never;
  }
};

/** Running product of `1 - beta`, accumulated in float64 and stored in float32, as `torch.cumprod` does on the CPU. */
const cumulativeAlphas = (betas: Float32Array): Float32Array => {
  let product = 1;
  return betas.map((beta) => {
    product *= f32(1 - beta);
    return product;
  });
};

/** Shifts and scales the betas so that the last timestep is pure noise (arXiv 2305.08891, algorithm 1). */
const rescaleToZeroTerminalSnr = (betas: Float32Array): Float32Array => {
  const roots = cumulativeAlphas(betas).map(Math.sqrt);
  const first = at(roots, 0);
  const last = at(roots, roots.length - 1);
  const scale = f32(first / f32(first - last));
  const alphaBars = roots.map((root) => f32(f32(root - last) * scale) ** 2);
  return alphaBars.map((alphaBar, index) => 1 - (index === 0 ? alphaBar : f32(alphaBar / at(alphaBars, index - 1))));
};

/**
 * The alpha products per training timestep.
 * @returns `[num_train_timesteps]`, descending from almost 1 to almost 0
 */
export const alphaProducts = (config: NoiseScheduleConfig): Float32Array => {
  const betas = betasOf(config);
  return cumulativeAlphas(config.rescale_betas_zero_snr ? rescaleToZeroTerminalSnr(betas) : betas);
};

/**
 * Noise levels `sqrt((1 - alphaBar) / alphaBar)` per training timestep, for the solvers that work in sigmas
 * (arXiv 2206.00364). A zero terminal SNR would be an infinite sigma; it becomes a large finite one.
 * @returns `[num_train_timesteps]`, ascending
 */
export const trainingSigmas = (config: NoiseScheduleConfig): Float32Array => {
  const sigmas = alphaProducts(config).map((alphaBar) => Math.sqrt(f32(f32(1 - alphaBar) / alphaBar)));
  if (config.rescale_betas_zero_snr) sigmas[sigmas.length - 1] = LARGEST_SIGMA;
  return sigmas;
};
