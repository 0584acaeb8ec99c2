import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { decode as decodePng } from 'fast-png';
import { beforeAll, describe, expect, it } from 'vitest';
import { encodePicture, formatOfFile, type PictureFormat } from '#tandem/coordinator/pipeline/index.js';

const SIZE = 64;

/** A soft gradient, which no codec has to round much. */
const image = {
  width: SIZE,
  height: SIZE,
  data: Uint8Array.from({ length: SIZE * SIZE * 3 }, (_, index) => {
    const pixel = Math.floor(index / 3);
    return [(pixel % SIZE) * 3, Math.floor(pixel / SIZE) * 3, 100][index % 3] ?? 0;
  }),
};

interface Decoded {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

interface Decoder {
  readonly init: (module: object) => Promise<unknown>;
  readonly default: (file: ArrayBufferLike) => Promise<Decoded>;
}

declare const WebAssembly: { compile(bytes: Uint8Array): Promise<object> };

/** What the codecs' decoders make in a browser. */
class ImageData implements Decoded {
  constructor(
    readonly data: Uint8ClampedArray,
    readonly width: number,
    readonly height: number,
  ) {}
}

const opened = async (loaded: Promise<unknown>, wasm: string): Promise<Decoder['default']> => {
  const decoder = (await loaded) as Decoder;
  await decoder.init(await WebAssembly.compile(readFileSync(resolve('node_modules/@jsquash', wasm))));
  return decoder.default;
};

const DECODERS = {
  jpeg: () => opened(import('@jsquash/jpeg/decode.js'), 'jpeg/codec/dec/mozjpeg_dec.wasm'),
  webp: () => opened(import('@jsquash/webp/decode.js'), 'webp/codec/dec/webp_dec.wasm'),
} satisfies Partial<Record<PictureFormat, () => Promise<Decoder['default']>>>;

/** Peak signal to noise of the colours, in dB. */
const psnr = (rgba: Uint8ClampedArray): number => {
  const squares = image.data.map((value, index) => (rgba[Math.floor(index / 3) * 4 + (index % 3)] ?? 0) - value);
  const sum = Array.from(squares, (byte) => (byte > 127 ? byte - 256 : byte)).reduce((all, d) => all + d * d, 0);
  return 10 * Math.log10(255 ** 2 / (sum / squares.length));
};

describe('a picture file', () => {
  beforeAll(() => {
    Reflect.set(globalThis, 'ImageData', ImageData);
  });

  it.each(['jpeg', 'webp'] as const)('in %s looks like the picture, and is smaller at less quality', async (format) => {
    const file = await encodePicture(image, format);
    const decode = await DECODERS[format]();
    const picture = await decode(Uint8Array.from(file).buffer);
    expect([picture.width, picture.height]).toEqual([SIZE, SIZE]);
    expect(psnr(picture.data)).toBeGreaterThan(35);
    expect(await encodePicture(image, format)).toEqual(file);
    expect((await encodePicture(image, format, { quality: 20 })).length).toBeLessThan(file.length);
  });

  it('in png holds the same pixels', async () => {
    expect([...decodePng(await encodePicture(image, 'png')).data]).toEqual([...image.data]);
  });

  it('is named for its format', () => {
    expect(['a.png', 'b.JPG', 'c.jpeg', 'd.webp'].map(formatOfFile)).toEqual(['png', 'jpeg', 'jpeg', 'webp']);
    expect(() => formatOfFile('apple')).toThrow(/found no extension in apple/);
    expect(() => formatOfFile('apple.gif')).toThrow(/found \.gif/);
  });
});
