/**
 * The picture as a file: PNG as it is, JPEG and WebP by the codecs of the Squoosh application (mozjpeg and libwebp as WebAssembly,
 * which need no build tools on any platform). A codec is loaded when it is first used, as many starts write no picture.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { TandemError } from '../../common/errors.js';
import type { ImageParameters } from './png.js';
import type { RgbImage } from './vae-decoder.js';

export const PICTURE_FORMATS = ['png', 'jpeg', 'webp'] as const;
export type PictureFormat = (typeof PICTURE_FORMATS)[number];

export const MEDIA_TYPES: Readonly<Record<PictureFormat, string>> = {
  png: 'image/png',
  jpeg: 'image/jpeg',
  webp: 'image/webp',
};

const EXTENSIONS: Readonly<Record<string, PictureFormat>> = {
  '.png': 'png',
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
  '.webp': 'webp',
};

/**
 * The format that a file's name asks for.
 * @throws TandemError `OUT_FORMAT` for a name that asks for none of them
 */
export const formatOfFile = (file: string): PictureFormat => {
  const extension = extname(file).toLowerCase();
  const format = EXTENSIONS[extension];
  if (format !== undefined) return format;
  const found = extension === '' ? 'no extension' : extension;
  throw new TandemError(
    'OUT_FORMAT',
    `Expected the picture's name to end in ${Object.keys(EXTENSIONS).join(', ')}; found ${found} in ${file}. Name it for the format that is wanted.`,
  );
};

export interface EncodeOptions {
  /** 1 to 100, of JPEG and WebP; 90 where absent. PNG loses nothing. */
  readonly quality?: number;
  /** Written into a PNG; the other formats carry none. */
  readonly parameters?: ImageParameters;
}

const DEFAULT_QUALITY = 90;

/** What the codecs take: a browser's `ImageData`, as plain data. */
interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

type Encode = (pixels: Pixels, quality: number) => Promise<ArrayBuffer>;

const require = createRequire(import.meta.url);

/** Node has it; the types of Node 20 do not say so. */
declare const WebAssembly: { compile(bytes: Uint8Array): Promise<object> };

/** The codecs would fetch their WebAssembly by an URL, as browsers do. */
const compile = async (file: string): Promise<object> => WebAssembly.compile(await readFile(require.resolve(file)));

/** A codec as its package exports it; its own types are a browser's. */
interface Codec {
  readonly init: (module: object) => Promise<unknown>;
  readonly default: (pixels: Pixels, options: { readonly quality: number }) => Promise<ArrayBuffer>;
}

const opened = async (loaded: Promise<unknown>, wasm: string): Promise<Encode> => {
  const codec = (await loaded) as Codec;
  await codec.init(await compile(wasm));
  return (pixels, quality) => codec.default(pixels, { quality });
};

const LOADERS: Readonly<Record<Exclude<PictureFormat, 'png'>, () => Promise<Encode>>> = {
  jpeg: () => opened(import('@jsquash/jpeg/encode.js'), '@jsquash/jpeg/codec/enc/mozjpeg_enc.wasm'),
  webp: () => opened(import('@jsquash/webp/encode.js'), '@jsquash/webp/codec/enc/webp_enc_simd.wasm'),
};

const encoders = new Map<PictureFormat, Promise<Encode>>();

const encoderOf = (format: Exclude<PictureFormat, 'png'>): Promise<Encode> => {
  const known = encoders.get(format) ?? LOADERS[format]();
  encoders.set(format, known);
  return known;
};

const withAlpha = ({ width, height, data }: RgbImage): Pixels => {
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let pixel = 0; pixel < width * height; pixel++) rgba.set(data.subarray(pixel * 3, pixel * 3 + 3), pixel * 4);
  return { width, height, data: rgba };
};

/**
 * Encodes a picture. It computes for as long as it takes: a server calls it in a thread of its own.
 * @returns the bytes of the file; equal pictures and options give equal bytes
 */
export const encodePicture = async (
  image: RgbImage,
  format: PictureFormat,
  options: EncodeOptions = {},
): Promise<Uint8Array> => {
  if (format === 'png') {
    const { encodePng } = await import('./png.js');
    return encodePng(image, options.parameters);
  }
  const encode = await encoderOf(format);
  return new Uint8Array(await encode(withAlpha(image), options.quality ?? DEFAULT_QUALITY));
};
