/** The measuring process from the inside: answers one request. Its own process, so that memory is handed out as in a worker. */
import { measureModel } from '../../partition/calibrate/index.js';
import type { FromMeasuring, MeasureRequest } from './protocol.js';

const reply = (message: FromMeasuring): void => void process.send?.(message);

const answer = async ({ model, dims, device }: MeasureRequest): Promise<void> => {
  try {
    const onProgress = (done: number, total: number): void => reply({ kind: 'progress', done, total });
    reply({ kind: 'measured', measured: await measureModel(model, dims, device, { onProgress }) });
  } catch (error) {
    reply({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
};

// The coordinator decides what Ctrl-C means; a terminal sends it to every process of the group.
process.on('SIGINT', () => undefined);
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (request: MeasureRequest) => void answer(request));
