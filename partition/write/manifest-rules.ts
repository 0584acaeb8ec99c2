/** The rules between a manifest's parts that a schema cannot say. */
import { isKnownShape } from '../../common/tensor.js';
import { type Manifest, type Profile, type Receive, weightsFiles } from './manifest.js';

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);

const receiveProblem = (profile: Profile, rank: number, segment: number, receive: Receive): string | undefined => {
  const where = `profile "${profile.name}", rank ${rank}, segment ${segment}: "${receive.name}"`;
  const sender = profile.ranks[receive.from]?.segments[segment];
  if (!sender?.sends.some((send) => send.tensor === receive.tensor && send.to.includes(rank))) {
    return `${where} is awaited from rank ${receive.from}, which does not send "${receive.tensor}"`;
  }
  const output = sender.outputs.find((candidate) => candidate.name === receive.tensor);
  if (output?.dtype !== receive.dtype || !isKnownShape(output.shape) || !sameShape(output.shape, receive.shape)) {
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
  const needed = new Set([...segments, ...manifest.ranks.flatMap(weightsFiles)]);
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
    ...manifest.ranks
      .filter(({ prepared }) => manifest.quantize !== undefined && !prepared)
      .map(({ rank }) => `rank ${rank} is not prepared, but "quantize" is "${manifest.quantize}"`),
    ...manifest.profiles.flatMap((profile) => profileProblems(manifest, profile)),
    ...fileProblems(manifest),
  ];
};
