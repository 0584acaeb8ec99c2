/** The measuring process from the inside: answers one request. Its own process, so that memory is handed out as in a worker. */
import { answer } from '../../common/answer.js';
import { measureModel } from '../../partition/calibrate/index.js';
import type { FromMeasuring, MeasureRequest } from './protocol.js';

const reply = (message: FromMeasuring): void => void process.send?.(message);

const onProgress = (done: number, total: number): void => reply({ kind: 'progress', done, total });

const measure = async ({ model, dims, device }: MeasureRequest): Promise<void> =>
  reply(await answer(() => measureModel(model, dims, device, { onProgress })));

// The coordinator decides what Ctrl-C means; a terminal sends it to every process of the group.
process.on('SIGINT', () => undefined);
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (request: MeasureRequest) => void measure(request));
