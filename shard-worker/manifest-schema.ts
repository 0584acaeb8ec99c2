/** The manifest as a schema, and the rules between its parts that a schema cannot say. */
import { z } from 'zod';
import { FORMAT_VERSION, type Manifest, type Profile, type Receive } from '../partition/manifest.js';
import type { Provider } from '../partition/onnxruntime.js';
import { DTYPES, type DType } from '../partition/tensor.js';

const count = z.number().int().nonnegative();
const digest = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits');
// A manifest names files of its own directory only.
const relativePath = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith('/') && !/^[A-Za-z]:|\\|\0/.test(path) && !path.split('/').includes('..'), {
    message: 'expected a path inside the shard directory, with forward slashes',
  });

const spec = {
  name: z.string().min(1),
  dtype: z.enum(Object.keys(DTYPES) as [DType, ...DType[]]),
  shape: z.array(count),
};
const tensorSpec = z.object(spec);

const segment = z.object({
  file: relativePath,
  inputs: z.array(z.string()),
  outputs: z.array(tensorSpec),
  sends: z.array(z.object({ tensor: z.string(), to: z.array(count).min(1) })),
  receives: z.array(z.object({ ...spec, from: count, tensor: z.string() })),
  release: z.array(z.string()),
});

const profile = z.object({
  name: z.string().min(1),
  dims: z.record(z.string(), count),
  inputs: z.array(tensorSpec),
  outputs: z.array(tensorSpec).min(1),
  wire_bytes_per_step: z.number().nonnegative(),
  ranks: z.array(z.object({ segments: z.array(segment).min(1) })),
});

const prepared = z.object({
  provider: z.enum(['cpu', 'cuda', 'webgpu', 'dml', 'coreml'] satisfies Provider[]),
  onnxruntime_version: z.string(),
  layout: digest,
});

const rankEntry = z.object({
  rank: count,
  folder: relativePath,
  weights: relativePath,
  weight_bytes: count,
  prepared: prepared.exactOptional(),
});

const file = z.object({
  path: relativePath,
  bytes: count,
  sha256: digest,
  gmac: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'expected 32 hex digits')
    .exactOptional(),
});

export const manifestSchema: z.ZodType<Manifest> = z.object({
  format_version: z.literal(FORMAT_VERSION),
  tool_version: z.string(),
  model: z.object({ name: z.string(), sha256: digest }),
  world_size: z.number().int().positive(),
  wire_dtype: z.enum(['fp32', 'fp16']),
  quantize: z.literal('int8').exactOptional(),
  ranks: z.array(rankEntry),
  profiles: z.array(profile).min(1),
  files: z.array(file),
});

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);

const receiveProblem = (profile: Profile, rank: number, segment: number, receive: Receive): string | undefined => {
  const where = `profile "${profile.name}", rank ${rank}, segment ${segment}: "${receive.name}"`;
  const sender = profile.ranks[receive.from]?.segments[segment];
  if (!sender?.sends.some((send) => send.tensor === receive.tensor && send.to.includes(rank))) {
    return `${where} is awaited from rank ${receive.from}, which does not send "${receive.tensor}"`;
  }
  const output = sender.outputs.find((candidate) => candidate.name === receive.tensor);
  if (output?.dtype !== receive.dtype || !sameShape(output.shape, receive.shape)) {
    return `${where} and its sender's "${receive.tensor}" differ in type or shape`;
  }
  return undefined;
};

const sendProblems = (profile: Profile, rank: number, segment: number): string[] => {
  const entry = profile.ranks[rank]?.segments[segment];
  return (entry?.sends ?? []).flatMap((send) => {
    const where = `profile "${profile.name}", rank ${rank}, segment ${segment}: "${send.tensor}"`;
    const isOutput = entry?.outputs.some((output) => output.name === send.tensor) ?? false;
    const deaf = send.to.filter((peer) => {
      const receives = profile.ranks[peer]?.segments[segment]?.receives ?? [];
      return !receives.some((receive) => receive.from === rank && receive.tensor === send.tensor);
    });
    return [
      ...(isOutput ? [] : [`${where} is sent but is not an output of the segment`]),
      ...deaf.map((peer) => `${where} is sent to rank ${peer}, which does not await it`),
    ];
  });
};

/** Names that a segment reads must be model inputs, or come from earlier segments or peers. */
const inputProblems = (profile: Profile, rank: number): string[] => {
  const known = new Set(profile.inputs.map((input) => input.name));
  const problems: string[] = [];
  for (const [index, segment] of (profile.ranks[rank]?.segments ?? []).entries()) {
    const where = `profile "${profile.name}", rank ${rank}, segment ${index}`;
    problems.push(
      ...segment.inputs.filter((name) => !known.has(name)).map((name) => `${where}: nothing provides "${name}"`),
    );
    for (const tensor of [...segment.outputs, ...segment.receives]) known.add(tensor.name);
    for (const name of segment.release) known.delete(name);
  }
  const missing = profile.outputs.filter((output) => !known.has(output.name));
  return [
    ...problems,
    ...missing.map(
      (output) => `profile "${profile.name}", rank ${rank}: output "${output.name}" is not there at the end`,
    ),
  ];
};

const profileProblems = (manifest: Manifest, profile: Profile): string[] => {
  if (profile.ranks.length !== manifest.world_size) {
    return [`profile "${profile.name}" has programs for ${profile.ranks.length} ranks, not ${manifest.world_size}`];
  }
  return profile.ranks.flatMap(({ segments }, rank) => [
    ...inputProblems(profile, rank),
    ...segments.flatMap((segment, index) => [
      ...sendProblems(profile, rank, index),
      ...segment.receives.flatMap((receive) => receiveProblem(profile, rank, index, receive) ?? []),
    ]),
  ]);
};

const fileProblems = (manifest: Manifest): string[] => {
  const listed = new Set(manifest.files.map((file) => file.path));
  const segments = manifest.profiles.flatMap((profile) =>
    profile.ranks.flatMap((rank) => rank.segments.map(({ file }) => file)),
  );
  const needed = new Set([...segments, ...manifest.ranks.map((rank) => rank.weights)]);
  return [...needed].filter((path) => !listed.has(path)).map((path) => `"${path}" is used but has no entry in "files"`);
};

/** Everything that contradicts itself in a manifest that fits the schema; empty if nothing does. */
export const manifestProblems = (manifest: Manifest): string[] => {
  const ranks = manifest.ranks.map((entry) => entry.rank);
  const inOrder = ranks.length === manifest.world_size && ranks.every((rank, index) => rank === index);
  return [
    ...(inOrder
      ? []
      : [`"ranks" lists ${ranks.join(', ') || 'none'}, expected 0 to ${manifest.world_size - 1} in order`]),
    ...manifest.profiles.flatMap((profile) => profileProblems(manifest, profile)),
    ...fileProblems(manifest),
  ];
};
