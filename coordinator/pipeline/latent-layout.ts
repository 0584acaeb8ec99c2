/**
 * How latents lie in a denoiser's input. The loop and the VAE have them in planes, `[channels, height, width]`; FLUX takes
 * them as a row of tokens, each a patch of 2 by 2: `[height / 2 * width / 2, channels * 4]`.
 */

export type LatentLayout = 'planes' | 'patches';

/** `[channels, height, width]` of one image's latents. */
export type LatentShape = readonly [number, number, number];

/** Fixed sizes of one profile of a denoiser; lengths are in latents and tokens, not pixels. */
export interface DenoiserSize {
  /** 2 runs the unconditional and the conditional half of guidance in one call, 1 in two. */
  readonly batch: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly sequenceLength: number;
  readonly layout: LatentLayout;
}

/** The shape of a batch of latents as the denoiser takes it. */
export const sampleShape = ({ batch, channels, height, width, layout }: DenoiserSize): readonly number[] => {
  switch (layout) {
    case 'planes':
      return [batch, channels, height, width];
    case 'patches':
      return [batch, (height / 2) * (width / 2), channels * 4];
    default:
      return layout satisfies never;
  }
};

/** Calls `visit` with the place of every latent in planes and in patches. */
const forEachPlace = ([channels, height, width]: LatentShape, visit: (plane: number, patch: number) => void): void => {
  const columns = width / 2;
  for (let channel = 0; channel < channels; channel++)
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++) {
        const token = (row >> 1) * columns + (column >> 1);
        const inside = (row & 1) * 2 + (column & 1);
        visit((channel * height + row) * width + column, (token * channels + channel) * 4 + inside);
      }
};

/** One image's latents in planes, as the denoiser takes them. Returns `latents` itself where nothing moves. */
export const toLayout = (layout: LatentLayout, latents: Float32Array, shape: LatentShape): Float32Array => {
  if (layout === 'planes') return latents;
  const packed = new Float32Array(latents.length);
  forEachPlace(shape, (plane, patch) => {
    packed[patch] = latents[plane] ?? 0;
  });
  return packed;
};

/** The way back. */
export const fromLayout = (layout: LatentLayout, values: Float32Array, shape: LatentShape): Float32Array => {
  if (layout === 'planes') return values;
  const latents = new Float32Array(values.length);
  forEachPlace(shape, (plane, patch) => {
    latents[plane] = values[patch] ?? 0;
  });
  return latents;
};
