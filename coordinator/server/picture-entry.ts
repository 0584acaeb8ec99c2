/** The inside of the picture thread: compresses pictures where it holds nobody up. */
import { encodePicture } from '../pipeline/picture-file.js';
import type { PictureTask } from './picture-thread.js';

export default ({ picture, parameters, format, quality }: PictureTask): Promise<Uint8Array> =>
  encodePicture(picture, format, { parameters, quality });
