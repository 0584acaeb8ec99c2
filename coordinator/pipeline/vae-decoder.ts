/** Latents to pixels: the VAE decoder's session and the conversion of its output to bytes. */
import type { Session } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import { modelInputsError } from './errors.js';
import { toFloat32, toHostTensor } from './host-tensor.js';
import type { ModelDirectory } from './model-directory.js';
import { at, f32, roundHalfEven } from './schedulers/float32.js';

/** An 8-bit picture. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  /** `[height, width, 3]`, row-major. */
  readonly data: Uint8Array;
}

export interface VaeDecoder {
  /**
   * @param latents `[channels, height, width]` as the denoising loop leaves them
   * @throws TandemError `SESSION_FAILED` or `SESSION_TIMEOUT`
   */
  decode(latents: Float32Array, shape: readonly [number, number, number]): Promise<RgbImage>;
}

/** A value of the decoder's range [-1, 1] as a byte. */
const toByte = (value: number): number => {
  const unit = f32(f32(value * 0.5) + 0.5);
  return roundHalfEven(f32(Math.min(1, Math.max(0, unit)) * 255));
};

/** `[1, 3, height, width]` in [-1, 1] to interleaved bytes. */
const toRgb = (tensor: HostTensor): RgbImage => {
  const [batch, channels, height = 0, width = 0] = tensor.shape;
  if (batch !== 1 || channels !== 3)
    throw modelInputsError('VAE decoder', [
      `It returned the shape [${tensor.shape.join(', ')}]; expected [1, 3, height, width].`,
    ]);
  const values = toFloat32(tensor);
  const plane = height * width;
  const data = new Uint8Array(plane * 3);
  for (let pixel = 0; pixel < plane; pixel++)
    for (let channel = 0; channel < 3; channel++)
      data[pixel * 3 + channel] = toByte(at(values, channel * plane + pixel));
  return { width, height, data };
};

/** Latents as the VAE encodes pictures: the inverse of the scale and shift with which the denoiser sees them. */
const unscaled = (
  latents: Float32Array,
  { scalingFactor, shiftFactor, mean, std }: ModelDirectory['latents'],
  plane: number,
): Float32Array => {
  const factor = f32(scalingFactor);
  if (mean === undefined || std === undefined) return latents.map((value) => f32(value / factor) + shiftFactor);
  return latents.map((value, index) => {
    const channel = Math.floor(index / plane);
    return f32(f32(value * f32(at(std, channel))) / factor) + f32(at(mean, channel));
  });
};

/**
 * Opens a VAE decoder on its session.
 * @throws TandemError `MODEL_INPUTS` when it does not take one tensor and give one
 */
export const openVaeDecoder = (session: Session, scaling: ModelDirectory['latents']): VaeDecoder => {
  const [input, ...others] = session.inputs;
  const [output] = session.outputs;
  if (input === undefined || output === undefined || others.length > 0)
    throw modelInputsError('VAE decoder', [
      `It has ${session.inputs.length} inputs and ${session.outputs.length} outputs; expected one input (latent_sample) and one output (sample).`,
    ]);
  return {
    async decode(latents, shape) {
      const encoded = unscaled(latents, scaling, latents.length / shape[0]);
      const outputs = await session.run({ [input.name]: toHostTensor(encoded, input.dtype, [1, ...shape]) });
      const picture = outputs[output.name];
      if (picture === undefined) throw modelInputsError('VAE decoder', [`It returned no "${output.name}".`]);
      return toRgb(picture);
    },
  };
};
