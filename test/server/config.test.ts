import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { parseClusterConfig } from '#tandem/coordinator/config/index.js';
import { resolveApiKey } from '#tandem/coordinator/server/auth.js';

const FILE = resolve('configs/dual-cpu.yaml');
const KEY = 'a-key-for-this-test-only';

const text = (server: string): string => `model: .\ndevices: [{ provider: cpu }]\nserver: ${server}\n`;

const parse = (server: string) => parseClusterConfig(text(server), FILE).server;

const problemsOf = (server: string): string => {
  try {
    parse(server);
  } catch (error) {
    if (error instanceof TandemError) return error.problems.join('\n');
    throw error;
  }
  throw new Error('Expected a TandemError.');
};

describe('the config block "server"', () => {
  it('listens on the loopback at 8080 unless it says otherwise', () => {
    const { server } = parseClusterConfig('model: .\ndevices: [{ provider: cpu }]\n', FILE);
    expect(server).toEqual({
      images: expect.stringMatching(/tandem.images$/),
      host: '127.0.0.1',
      port: 8080,
      maxRunning: 8,
      maxQueue: 16,
      trustProxy: [],
      drainMs: 45_000,
    });
  });

  it.each(['0.0.0.0', '::', '192.168.1.5', 'example.org'])('refuses the address %s without an API key', (host) => {
    expect(problemsOf(`{ host: "${host}" }`)).toMatch(/server\.host: expected an API key/);
  });

  it.each(['127.0.0.1', '127.1.2.3', 'localhost', '::1'])('needs no key for %s', (host) => {
    expect(parse(`{ host: "${host}" }`).host).toBe(host);
  });

  it('takes any address beside a key', () => {
    expect(parse(`{ host: 0.0.0.0, api_key: ${KEY} }`).apiKey).toBe(KEY);
    expect(parse('{ host: 0.0.0.0, api_key_env: TANDEM_KEY }').apiKeyVariable).toBe('TANDEM_KEY');
  });

  it('refuses a short key, two keys, and what it does not know', () => {
    expect(problemsOf('{ api_key: short }')).toMatch(/at least 16 characters; found 5/);
    expect(problemsOf(`{ api_key: ${KEY}, api_key_env: TANDEM_KEY }`)).toMatch(/found both/);
    expect(problemsOf('{ max_que: 3 }')).toMatch(/did you mean "max_queue"/);
    expect(problemsOf('{ port: 70000 }')).toMatch(/server\.port: expected at most 65535/);
  });

  it('reads the key from the environment, and says what is wrong with it', () => {
    const server = parse('{ api_key_env: TANDEM_KEY }');
    expect(resolveApiKey(server, { TANDEM_KEY: KEY })).toBe(KEY);
    expect(() => resolveApiKey(server, {})).toThrow(/TANDEM_KEY.*it is not set/);
    expect(() => resolveApiKey(server, { TANDEM_KEY: 'short' })).toThrow(/it has 5/);
    expect(resolveApiKey(parse('{}'), {})).toBeUndefined();
  });
});
