/** The checking process from the inside: answers one request. */
import { type Answer, answer } from '../../common/answer.js';
import { checkDevice } from '../../partition/calibrate/index.js';
import type { CheckAnswer, CheckRequest } from './protocol.js';

const check = ({ provider, deviceId }: CheckRequest): Promise<Answer<CheckAnswer>> =>
  answer(async () => {
    const float32 = await checkDevice(provider, deviceId, 'float32');
    const float16 = float32.works ? await checkDevice(provider, deviceId, 'float16') : float32;
    return { float32, float16 };
  });

process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (request: CheckRequest) => void check(request).then((found) => process.send?.(found)));
