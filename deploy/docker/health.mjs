/**
 * How a container is, for probes of Docker and Kubernetes; exit status 0 is yes.
 *
 *     node health.mjs live      the process answers
 *     node health.mjs ready     a server takes requests; a worker host runs its ranks
 *     node health.mjs drained   waits until a worker host runs none, or for as many seconds as follow: it is not stopped under a picture
 *
 * Where TANDEM_STATUS names a file this is a worker host, which rewrites it every second; else a server, at TANDEM_PORT or 8080.
 */
import { readFileSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const STALE_MS = 10_000;
const [, , question = 'live', seconds = '60'] = process.argv;
const { TANDEM_STATUS: status, TANDEM_PORT: port = '8080' } = process.env;

const ask = async (path) => {
  try {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(4000) });
    return { well: response.ok, found: `${response.status} ${(await response.text()).slice(0, 500)}` };
  } catch (error) {
    return { well: false, found: String(error.cause ?? error) };
  }
};

const stateOf = (file) => {
  try {
    const age = Date.now() - statSync(file).mtimeMs;
    return age > STALE_MS ? `silent for ${Math.round(age / 1000)} s` : readFileSync(file, 'utf8').trim();
  } catch (error) {
    return error.code === 'ENOENT' ? 'not started' : String(error);
  }
};

const WORKER_STATES = { live: ['waiting', 'joined', 'running'], ready: ['running'] };

const drained = async () => {
  const end = Date.now() + Number(seconds) * 1000;
  while (stateOf(status) === 'running' && Date.now() < end) await delay(500);
  return { well: true, found: stateOf(status) };
};

const questions = {
  live: () => ask('/live'),
  ready: () => ask('/ready'),
  drained: () => ({ well: true, found: 'a server drains by itself' }),
};
const workerQuestions = {
  live: () => ({ well: WORKER_STATES.live.includes(stateOf(status)), found: stateOf(status) }),
  ready: () => ({ well: WORKER_STATES.ready.includes(stateOf(status)), found: stateOf(status) }),
  drained,
};

const answer = (status === undefined ? questions : workerQuestions)[question];
if (answer === undefined) throw new Error(`Expected live, ready or drained; found "${question}".`);
const { well, found } = await answer();
console.log(found);
process.exitCode = well ? 0 : 1;
