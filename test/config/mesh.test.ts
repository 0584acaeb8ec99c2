/** `parallel` with groups of devices. */
import { expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { parseClusterConfig } from '#tandem/coordinator/config/index.js';

const parse = (parallel: string, more = '') =>
  parseClusterConfig(
    `model: models/emoji-sd\ndevices: [{ provider: cpu }, { provider: cpu }]\nparallel: ${parallel}\n${more}`,
    'two.yaml',
  );

const problemsOf = (parallel: string, more?: string): string => {
  try {
    parse(parallel, more);
    return '';
  } catch (error) {
    return error instanceof TandemError ? error.problems.join('\n') : String(error);
  }
};

it('fills in the ways that are left out', () => {
  expect(parse('{ pipeline: 2 }')).toMatchObject({
    parallel: 'tensor',
    mesh: { tensor: 1, tokens: 1, guidance: 1, pipeline: 2, replicas: 1 },
    aim: 'latency',
  });
  expect(parse('auto').mesh).toBeUndefined();
  expect(parse('{ tokens: 2 }')).toMatchObject({ parallel: 'tokens', split: 'tokens', mesh: { tensor: 1, tokens: 2 } });
  expect(parse('tokens')).toMatchObject({ parallel: 'tokens', split: 'tokens' });
});

it('names the file, the line and the key of what does not fit', () => {
  expect(problemsOf('{ pipeline: 2, replicas: 2 }')).toMatch(
    /two\.yaml:3:\d+ parallel: expected numbers whose product is 2, the number of devices listed; found tensor 1 x tokens 1 x guidance 1 x pipeline 2 x replicas 2, which is 4/,
  );
  expect(problemsOf('{ tensor: 2, tokens: 2 }')).toMatch(/parallel\.tokens: expected 1 beside tensor 2/);
  expect(problemsOf('{ guidance: 3 }')).toMatch(/parallel\.guidance: expected 1 or 2/);
  expect(problemsOf('{ rows: 2 }')).toMatch(/two\.yaml:3:\d+ parallel.*rows/);
  expect(problemsOf('{ pipeline: 2 }', 'split: batch\n')).toMatch(/found groups of devices/);
  expect(problemsOf('{ pipeline: 2 }', 'placement: { text_encoder: shard }\n')).toMatch(
    /placement\.text_encoder: expected "coordinator" beside several groups of devices/,
  );
});
