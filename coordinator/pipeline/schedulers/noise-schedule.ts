/**
 * The forward process that diffusion models are trained with: betas, and the cumulative products of `1 - beta` from which
 * every solver's coefficients come (DDPM, arXiv 2006.11239). Values are float32 as in diffusers.
 */
import { z } from 'zod';
import { at, f32 } from './float32.js';

/** Longest schedule that is made: ten times the longest that a released model has, so that a slip of the pen is told at once. */
const MAX_TRAIN_TIMESTEPS = 10_000;

export const trainTimesteps = z.number().int().min(1).max(MAX_TRAIN_TIMESTEPS).default(1000);

const beta = z.number().positive().lt(1);

/** The keys of scheduler_config.json that describe the forward process, common to all schedulers but flow matching. */
export const noiseScheduleKeys = {
  num_train_timesteps: trainTimesteps,
  beta_start: beta.default(0.0001),
  beta_end: beta.default(0.02),
  beta_schedule: z
    .enum(['linear', 'scaled_linear', 'squaredcos_cap_v2', 'exp', 'laplace', 'sigmoid'])
    .default('linear'),
  trained_betas: z.array(beta).nullable().default(null),
} as const;

/** For the classes that know it; the others leave the betas as they are, as diffusers does. */
export const zeroSnrKeys = { rescale_betas_zero_snr: z.boolean().default(false) } as const;

/** The betas that Heun's family of classes has where a config names none. */
export const latentBetaKeys = { beta_start: beta.default(0.00085), beta_end: beta.default(0.012) } as const;

const noiseScheduleConfig = z.object(noiseScheduleKeys);
export type NoiseScheduleConfig = z.infer<typeof noiseScheduleConfig> & { readonly rescale_betas_zero_snr?: boolean };

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

/** Signal's share at a time from 0 to 1, for the schedules that are given by it. */
const ALPHA_BARS = {
  squaredcos_cap_v2: (time: number): number => Math.cos((((time + 0.008) / 1.008) * Math.PI) / 2) ** 2,
  exp: (time: number): number => Math.exp(time * -12),
  laplace: (time: number): number => {
    const side = time > 0.5 ? -1 : 1;
    const ratio = Math.exp(-0.5 * side * Math.log(1 - 2 * Math.abs(0.5 - time) + 1e-6));
    return Math.sqrt(ratio / (1 + ratio));
  },
} as const;

const betasOfAlphaBar = (alphaBar: (time: number) => number, count: number): Float32Array =>
  Float32Array.from({ length: count }, (_, index) =>
    Math.min(1 - alphaBar((index + 1) / count) / alphaBar(index / count), MAX_BETA),
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
    case 'sigmoid':
      return linspaceFloat32(-6, 6, num_train_timesteps).map(
        (value) => f32(f32(1 / (1 + Math.exp(-value))) * (beta_end - beta_start)) + beta_start,
      );
    case 'squaredcos_cap_v2':
    case 'exp':
    case 'laplace':
      return betasOfAlphaBar(ALPHA_BARS[config.beta_schedule], num_train_timesteps);
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
