/** `tandem devices` and `tandem init` on the machine that the tests run on: it has a CPU, and perhaps more. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { firstConfig } from '#tandem/coordinator/devices/first-config.js';
import type { DevicesReport, ProviderReport } from '#tandem/coordinator/devices/index.js';
import { makePreparedScratch, tandem } from './tandem.js';

const scratch = makePreparedScratch();
afterAll(scratch.remove);

describe('tandem devices', () => {
  it('tries every provider, and says of those that do not work what they need', async () => {
    const { status, stdout } = await tandem(['devices', '--json'], scratch.path);
    const { providers, cpu }: DevicesReport = JSON.parse(stdout);
    expect(status).toBe(0);
    expect(cpu.cores).toBeGreaterThan(0);
    expect(providers.map(({ provider }) => provider)).toEqual(['cpu', 'cuda', 'webgpu', 'dml', 'coreml']);
    expect(providers[0]).toEqual({ provider: 'cpu', works: true, float16: true, problem: null });
    for (const { works, problem } of providers) {
      if (!works) expect(problem).toMatch(/cannot run on this machine: .+\. .*(needs|exists on)/);
    }
  });
});

const machine = (works: readonly string[], cards: readonly string[]): DevicesReport => ({
  cpu: { model: 'any', cores: 8, memory_bytes: 2 ** 34 },
  cards: cards.map((model) => ({ vendor: model.split(' ')[0] ?? '', model, driver: null, memory_bytes: null })),
  providers: (['cpu', 'cuda', 'webgpu', 'dml', 'coreml'] as const).map(
    (provider): ProviderReport => ({ provider, works: works.includes(provider), float16: false, problem: null }),
  ),
});

describe('tandem init', () => {
  it('writes a config that makes a picture at once', async () => {
    const config = join(scratch.path, 'cluster.yaml');
    const made = await tandem(['init', 'models/emoji-sd', '--out', config], scratch.path);
    expect(made.status).toBe(0);
    expect(readFileSync(config, 'utf8')).toContain('devices:');
    const picture = join(scratch.path, 'apple.png');
    const run = await tandem(
      ['generate', '--config', config, '--prompt', 'a red apple', '--num-inference-steps', '2', '--out', picture],
      scratch.path,
    );
    expect(run).toMatchObject({ status: 0 });
    expect(readFileSync(picture).subarray(1, 4).toString()).toBe('PNG');
  });

  it('writes over nothing', async () => {
    const config = join(scratch.path, 'own.yaml');
    await tandem(['init', 'models/emoji-sd', '--out', config], scratch.path);
    const { status, stderr } = await tandem(['init', 'models/emoji-sd', '--out', config], scratch.path);
    expect(status).toBe(1);
    expect(stderr).toContain(`Expected no file at "${resolve(config)}"`);
  });

  it('takes every NVIDIA card where CUDA works, the one adapter of WebGPU where not, and else shares the cores out', () => {
    const count = (text: string, provider: string) => text.split(`provider: ${provider}`).length - 1;
    const nvidia = ['NVIDIA H100', 'NVIDIA H100', 'Intel UHD'];
    expect(count(firstConfig('m', machine(['cpu', 'cuda', 'webgpu'], nvidia)), 'cuda')).toBe(2);
    expect(count(firstConfig('m', machine(['cpu', 'webgpu'], nvidia)), 'webgpu')).toBe(1);
    expect(firstConfig('m', machine(['cpu'], []))).toMatch(
      /provider: cpu\n {4}threads: 4\n {2}- provider: cpu\n {4}threads: 4/,
    );
  });
});
