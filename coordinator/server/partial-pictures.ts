/** Pictures of an image that is not done yet: decoded from its latents at most every few steps, beside the next steps. */
import type { StepProgress } from '../pipeline/index.js';

export interface PartialPicturesOptions {
  /** At most so many. */
  readonly most: number;
  /** @param latents as a step left them */
  readonly draw: (latents: Float32Array) => Promise<Uint8Array>;
  readonly onPicture: (step: number, png: Uint8Array) => void;
}

export class PartialPictures {
  readonly #options: PartialPicturesOptions;
  #drawing: Promise<void> | undefined;
  #failure: unknown;

  constructor(options: PartialPicturesOptions) {
    this.#options = options;
  }

  /** Draws the step's picture where it is due and the one before is done; otherwise the step is passed over. */
  offer({ step, steps, latents }: StepProgress): void {
    const { most, draw, onPicture } = this.#options;
    if (most === 0 || this.#drawing !== undefined || step === steps) return;
    if (step % Math.ceil(steps / (most + 1)) !== 0) return;
    this.#drawing = draw(latents)
      .then((png) => onPicture(step, png))
      .catch((error: unknown) => {
        this.#failure = error;
      })
      .finally(() => {
        this.#drawing = undefined;
      });
  }

  /** Waits for the one under way. @throws what drawing threw: the picture itself would fail the same way */
  async settled(): Promise<void> {
    await this.#drawing;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }
}
