/** How fast pictures are made at present, from measured times: what estimates and `Retry-After` are made of. */

/** Weight of the newest measurement: a change of pace shows within a few steps, and one slow step does not. */
const NEWEST = 0.2;

const blend = (before: number | undefined, now: number): number =>
  before === undefined ? now : before + NEWEST * (now - before);

export class Pace {
  #stepMs: number | undefined;
  #restMs: number | undefined;

  addStep(ms: number): void {
    this.#stepMs = blend(this.#stepMs, ms);
  }

  /** Time of a picture outside its steps: encoding the prompt, decoding the latents, writing the PNG; ms. */
  addRest(ms: number): void {
    this.#restMs = blend(this.#restMs, ms);
  }

  /** Expected time of a picture with so many steps to go, in ms; 0 before anything was measured. */
  pictureMs(steps: number): number {
    return steps * (this.#stepMs ?? 0) + (this.#restMs ?? 0);
  }
}
