/**
 * The pipelines of `test/fixtures/optimum`, laid out as Optimum wrote them, and their pictures through the built command line:
 * for `optimum.long.test.ts` and `npm run measure -- exports`.
 */
import { readFileSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { decode } from 'fast-png';
import { z } from 'zod';
import { type Ended, start } from '../cli/tandem.js';
import { psnr } from '../pipeline/helpers.js';

const FIXTURES = resolve('test/fixtures/optimum');

export const OPTIMUM_MODELS = ['sd15', 'sd2', 'sdxl', 'sdxl-turbo', 'sd3', 'flux-dev', 'flux-schnell', 'lcm'] as const;
export type OptimumModel = (typeof OPTIMUM_MODELS)[number];

const askedSchema = z.object({
  prompt: z.string(),
  negative_prompt: z.string().optional(),
  guidance_scale: z.number(),
  num_inference_steps: z.number(),
  width: z.number(),
  height: z.number(),
});
export type Asked = z.infer<typeof askedSchema>;

const goldensSchema = z.object({
  seed: z.number(),
  parts: z.record(z.string(), z.string()),
  pictures: z.record(z.string(), askedSchema),
});

export const readGoldens = (model: OptimumModel): z.infer<typeof goldensSchema> =>
  goldensSchema.parse(JSON.parse(readFileSync(join(FIXTURES, model, 'goldens.json'), 'utf8')));

/** Class of the scheduler that the model ships with. */
export const schedulerOf = (model: OptimumModel): string =>
  z
    .object({ _class_name: z.string() })
    .parse(JSON.parse(readFileSync(join(FIXTURES, model, 'scheduler', 'scheduler_config.json'), 'utf8')))._class_name;

const unzip = async (path: string): Promise<Buffer> => gunzipSync(await readFile(path));

/** The printable stand-in for each byte, in CLIP's order. */
const byteSymbols = (): readonly string[] => {
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const isPrintable = (byte: number) => (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte !== 0xad);
  const others = bytes.filter((byte) => !isPrintable(byte));
  return [...bytes.filter(isPrintable), ...others.map((_, index) => 256 + index)].map((code) =>
    String.fromCodePoint(code),
  );
};

/** CLIP's vocabulary: the bytes, the same at a word's end, one entry a merge, and the two special tokens. */
const vocabularyOf = (merges: string): Readonly<Record<string, number>> => {
  const symbols = byteSymbols();
  const made = merges
    .split('\n')
    .slice(1)
    .filter((line) => line !== '')
    .map((line) => line.replace(' ', ''));
  const ends = symbols.map((symbol) => `${symbol}</w>`);
  const entries = [...symbols, ...ends, ...made, '<|startoftext|>', '<|endoftext|>'];
  return Object.fromEntries(entries.map((entry, id) => [entry, id]));
};

const writeClip = async (directory: string): Promise<void> => {
  const merges = (await unzip(join(FIXTURES, 'merges.txt.gz'))).toString('utf8');
  const vocabulary = JSON.stringify(vocabularyOf(merges));
  for (const folder of (await readdir(directory)).filter((name) => name.startsWith('tokenizer'))) {
    if ((await readdir(join(directory, folder))).includes('tokenizer.json')) continue;
    await writeFile(join(directory, folder, 'merges.txt'), merges);
    await writeFile(join(directory, folder, 'vocab.json'), vocabulary);
  }
};

/** Lays a model out as Optimum wrote it. */
export const layOut = async (model: OptimumModel, directory: string): Promise<void> => {
  await mkdir(dirname(directory), { recursive: true });
  const filter = (path: string) => !/(goldens\.json|\.png)$/.test(path);
  await cp(join(FIXTURES, model), directory, { recursive: true, filter });
  await writeClip(directory);
  for (const [folder, part] of Object.entries(readGoldens(model).parts))
    await writeFile(join(directory, folder, 'model.onnx'), await unzip(join(FIXTURES, 'parts', `${part}.onnx.gz`)));
};

/** A config of workers with one thread each, which are all used, whatever would be fastest. */
export const writeConfig = async (scratch: string, model: string, workers: number): Promise<string> => {
  const path = join(scratch, `${workers}-workers.yaml`);
  const device = '  - { provider: cpu, threads: 1 }';
  const lines = [
    `model: ${JSON.stringify(model)}`,
    'parallel: tensor',
    'devices:',
    ...Array<string>(workers).fill(device),
    '',
  ];
  await writeFile(path, lines.join('\n'));
  return path;
};

const flagsOf = ({ negative_prompt, ...asked }: Asked): readonly string[] => [
  ...Object.entries(asked).map(([key, value]) => `--${key.replaceAll('_', '-')}=${value}`),
  ...(negative_prompt === undefined ? [] : [`--negative-prompt=${negative_prompt}`]),
];

export interface Painted {
  /** Against what diffusers painted, in dB; infinite where the two are equal. */
  readonly psnr: number;
  /** RGB. */
  readonly picture: Uint8Array;
  readonly said: string;
}

/** Paints one of a model's pictures with `tandem generate`. */
export const paint = async (
  model: OptimumModel,
  golden: string,
  { config, scratch }: { readonly config: string; readonly scratch: string },
): Promise<Painted> => {
  const { seed, pictures } = readGoldens(model);
  const asked = pictures[golden];
  if (asked === undefined) throw new Error(`${model} has no golden called ${golden}.`);
  const out = join(scratch, 'picture.png');
  const args = ['generate', '--config', config, '--seed', String(seed), ...flagsOf(asked), '--out', out];
  const { status, stderr }: Ended = await start(args, scratch).ended;
  if (status !== 0) throw new Error(`tandem ${args.join(' ')} ended with ${status}: ${stderr}`);
  const picture = Uint8Array.from(decode(await readFile(out)).data);
  const expected = Uint8Array.from(decode(readFileSync(join(FIXTURES, model, `${golden}.png`))).data);
  return { psnr: psnr(picture, expected), picture, said: stderr };
};
