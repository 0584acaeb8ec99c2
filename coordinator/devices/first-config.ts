/** A cluster config for this machine, as `tandem init` writes it: every line of it can be changed. */
import type { DevicesReport } from './index.js';

interface Chosen {
  readonly provider: string;
  readonly count: number;
  readonly why: string;
}

/** The first provider that works, in the order of what it gains; cards of one vendor are one provider's devices. */
const choose = ({ providers, cards, cpu }: DevicesReport): Chosen => {
  const works = (name: string) => providers.some(({ provider, works }) => provider === name && works);
  const nvidia = cards.filter(({ vendor, model }) => /nvidia/i.test(`${vendor} ${model}`)).length;
  if (works('cuda'))
    return { provider: 'cuda', count: Math.max(1, nvidia), why: `${Math.max(1, nvidia)} NVIDIA cards` };
  if (works('dml'))
    return { provider: 'dml', count: Math.max(1, cards.length), why: `${Math.max(1, cards.length)} Direct3D 12 cards` };
  if (works('coreml')) return { provider: 'coreml', count: 1, why: 'Apple hardware' };
  if (works('webgpu'))
    return { provider: 'webgpu', count: 1, why: 'one adapter: WebGPU opens the first of the system' };
  return { provider: 'cpu', count: cpu.cores > 1 ? 2 : 1, why: `no graphics card that works here; ${cpu.cores} cores` };
};

const deviceLines = ({ provider, count }: Chosen, cores: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => [
    `  - provider: ${provider}`,
    ...(provider === 'cuda' || provider === 'dml' ? [`    device_id: ${index}`] : []),
    ...(provider === 'cpu' ? [`    threads: ${Math.max(1, Math.floor(cores / count))}`] : []),
  ]).flat();

/**
 * A config as YAML.
 * @param model path of the model, as seen from where the config will lie
 */
export const firstConfig = (model: string, report: DevicesReport): string => {
  const chosen = choose(report);
  return [
    `# Made by "tandem init" for this machine: ${chosen.why}.`,
    '# "tandem schema" prints what else may stand here; "tandem devices" lists what this machine has.',
    `model: ${JSON.stringify(model)}`,
    '',
    '# One worker process per device; the place in the list is the rank.',
    'devices:',
    ...deviceLines(chosen, report.cpu.cores),
    '',
  ].join('\n');
};
