import { decode } from 'fast-png';
import { describe, expect, it } from 'vitest';
import { encodePng } from '#tandem/coordinator/pipeline/png.js';

const image = { width: 2, height: 1, data: Uint8Array.of(255, 0, 10, 1, 2, 3) };
const parameters = {
  prompt: 'a café by the sea ☃',
  negativePrompt: 'blurry',
  seed: 42,
  numInferenceSteps: 8,
  guidanceScale: 7.5,
  scheduler: 'ddim',
};

describe('a PNG', () => {
  it('holds the pixels and the parameters that made them', () => {
    const { data, width, height, channels, text } = decode(encodePng(image, parameters));
    expect({ data: [...data], width, height, channels }).toEqual({
      data: [...image.data],
      width: 2,
      height: 1,
      channels: 3,
    });
    expect(text).toEqual({
      parameters:
        'a café by the sea \\u2603\nNegative prompt: blurry\nSteps: 8, Sampler: ddim, CFG scale: 7.5, Seed: 42, Size: 2x1',
    });
  });

  it('is the same file for the same picture', () => {
    expect(encodePng(image, parameters)).toEqual(encodePng(image, parameters));
  });
});
