/** The inside of the PNG thread: compresses pictures where it holds nobody up. */
import { encodePng } from '../pipeline/png.js';
import type { PngTask } from './png-thread.js';

export default ({ picture, parameters }: PngTask): Uint8Array => encodePng(picture, parameters);
