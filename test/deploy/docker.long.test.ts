/** The Dockerfile and compose.yaml, as their own tools read them; `image.long.test.ts` runs what they make. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configInContainer, itWith, run, succeed } from './tools.js';

const DOCKERFILE = 'deploy/docker/Dockerfile';
const COMPOSE = 'deploy/docker/compose.yaml';
const KEY = 'a-key-for-this-test-only';

describe('the Dockerfile', () => {
  itWith('hadolint')('has no faults by hadolint', async () => {
    expect(await succeed('hadolint', [DOCKERFILE])).toBe('');
  });

  it('takes everything into the image that the package has', () => {
    const { files } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly files: readonly string[] };
    const copied = [...readFileSync(DOCKERFILE, 'utf8').matchAll(/^COPY (?!--)(.*) \S+$/gm)].flatMap(([, from = '']) =>
      from.split(' '),
    );
    const sent = [...readFileSync(`${DOCKERFILE}.dockerignore`, 'utf8').matchAll(/^!(.*)$/gm)].map(
      ([, path = '']) => path,
    );
    const made = ['dist'];
    const lacksOf = (given: readonly string[]) =>
      files.filter((file) => !made.includes(file) && !given.some((from) => `${file}/`.startsWith(`${from}/`)));
    expect(lacksOf(copied)).toEqual([]);
    expect(lacksOf(sent)).toEqual([]);
  });
});

describe('compose.yaml', () => {
  const config = () => succeed('docker-compose', ['-f', COMPOSE, 'config'], { variables: { TANDEM_API_KEY: KEY } });

  itWith('docker-compose')('reserves GPUs for the service, and asks the server how it is', async () => {
    const { services } = parse(await config());
    expect(Object.keys(services)).toEqual(['tandem', 'tandem-cpu']);
    expect(services.tandem).toMatchObject({
      build: { target: 'cuda' },
      read_only: true,
      healthcheck: { test: ['CMD', 'node', '/opt/tandem/deploy/docker/health.mjs', 'ready'] },
      deploy: { resources: { reservations: { devices: [{ driver: 'nvidia', count: 'all', capabilities: ['gpu'] }] } } },
    });
  });

  itWith('docker-compose')('starts nothing without a key for clients', async () => {
    const { status, output } = await run('docker-compose', ['-f', COMPOSE, 'config']);
    expect(status).not.toBe(0);
    expect(output).toMatch(/TANDEM_API_KEY/);
  });

  it.each(['cpu', 'cuda'])('has a valid config for %s', async (target) => {
    const { devices, server } = await configInContainer(readFileSync(`deploy/docker/${target}.yaml`, 'utf8'));
    expect(devices.map(({ provider }) => provider)).toEqual([target, target]);
    expect(server).toMatchObject({ host: '0.0.0.0', apiKeyVariable: 'TANDEM_API_KEY' });
  });
});
