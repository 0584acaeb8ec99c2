import { expect, test } from 'vitest';
import { answer, unwrap } from '#tandem/common/answer.js';
import { TandemError } from '#tandem/common/errors.js';

const across = async <T>(work: () => T, code?: 'SEGMENT_OPEN') => structuredClone(await answer(work, code));

const failing = (error: Error) => (): never => {
  throw error;
};

test('what was returned comes back', async () => {
  expect(unwrap(await across(() => ({ a: 1 })))).toEqual({ a: 1 });
});

test('an error of ours keeps its class, code, message and problems', async () => {
  const error = new TandemError('MODEL_DIMS', 'They do not fit:', { problems: ['a', 'b'] });
  const answered = await across(failing(error));
  const thrown = () => unwrap(answered);
  expect(thrown).toThrow(TandemError);
  expect(thrown).toThrow(expect.objectContaining({ code: 'MODEL_DIMS', message: error.message, problems: ['a', 'b'] }));
});

test('an error of others has the code that the one who asked gave it, or INTERNAL', async () => {
  const error = Object.assign(new Error('bad allocation'), { code: 'EWHATEVER' });
  const [given, absent] = [await across(failing(error), 'SEGMENT_OPEN'), await across(failing(error))];
  expect(() => unwrap(given)).toThrow(expect.objectContaining({ code: 'SEGMENT_OPEN', message: 'bad allocation' }));
  expect(() => unwrap(absent)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
});

test('a code that nobody knows, as of another version, is INTERNAL', () => {
  const problem = { code: 'FROM_TOMORROW', message: 'm', problems: [] };
  expect(() => unwrap({ kind: 'failed', problem })).toThrow(
    expect.objectContaining({ code: 'INTERNAL', message: 'm' }),
  );
});

test('whoever asks may tell it in other words', async () => {
  const answered = await across(failing(new Error('no file')));
  expect(() => unwrap(answered, ({ message }) => new Error(`Opening: ${message}`))).toThrow('Opening: no file');
});
