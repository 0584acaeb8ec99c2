import { pino } from 'pino';
import { expect, it } from 'vitest';
import { parseClusterConfig, type Ready, serve, TandemError, terminated } from '#tandem/coordinator/index.js';
import { CONFIG, freePort, type ImageAnswer, isAlive, json, post } from './helpers.js';

const TEXT = `
model: ../models/emoji-sd
devices: [{ provider: cpu, threads: 1 }]
defaults: { width: 64, height: 64 }
workers: { keep_warm_s: 0 }
`;

it('the package serves a config as a function, until its signal fires: with `terminated()` when all is answered', async () => {
  const stop = new AbortController();
  const port = await freePort();
  const config = parseClusterConfig(`${TEXT}server: { port: ${port} }\n`, CONFIG);
  let ended: Promise<unknown> = Promise.resolve();
  const ready = await new Promise<Ready>((onReady, onError) => {
    ended = serve({ config, log: pino({ level: 'silent' }), signal: stop.signal, onReady }).catch((error: unknown) => {
      onError(error);
      return error;
    });
  });
  expect(ready.url).toBe(`http://127.0.0.1:${port}`);
  const answer = post(ready.url, { prompt: 'x', num_inference_steps: 5, response_format: 'b64_json' });
  while ((await json<{ requests_running: number }>(await fetch(`${ready.url}/health`))).requests_running === 0);
  stop.abort(terminated());
  expect((await json<ImageAnswer>(await answer)).data[0]?.b64_json).toBeTruthy();
  const error = await ended;
  expect(error).toBeInstanceOf(TandemError);
  expect((error as TandemError).code).toBe('TERMINATED');
  expect(ready.cluster.workers.map(({ pid }) => pid).filter(isAlive)).toEqual([]);
});
