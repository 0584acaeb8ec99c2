/**
 * One picture at a time, first come first served. A request for several pictures takes a turn for each, and goes to the
 * end of the line in between, so that it delays another one by a single picture.
 */

/** The right to use the pipeline. */
export interface Turn {
  /** ms waited in line */
  readonly waitedMs: number;
  /** Says how much is left, for the estimates of those who wait. */
  progress(stepsLeft: number): void;
  release(): void;
}

export interface TurnRequest {
  /** Steps of the picture. */
  readonly steps: number;
  /** Takes the request out of the line; its reason is thrown. */
  readonly signal: AbortSignal;
  /** Told how many are ahead, the running one included; first when the request joins the line. */
  readonly onPosition?: (ahead: number, stepsAhead: readonly number[]) => void;
}

interface Waiting {
  readonly request: TurnRequest;
  readonly start: () => void;
  stepsLeft: number;
}

export class Turns {
  readonly #line: Waiting[] = [];
  #running: Waiting | undefined;

  get running(): number {
    return this.#running === undefined ? 0 : 1;
  }

  get waiting(): number {
    return this.#line.length;
  }

  /** Steps of the running picture that are left; undefined while none runs. */
  get runningStepsLeft(): number | undefined {
    return this.#running?.stepsLeft;
  }

  /** Waits for a turn. The caller releases it. @throws the signal's reason where it fires before */
  take(request: TurnRequest): Promise<Turn> {
    const since = performance.now();
    return new Promise((resolve, reject) => {
      if (request.signal.aborted) {
        reject(request.signal.reason);
        return;
      }
      const leave = (): void => {
        this.#remove(place);
        reject(request.signal.reason);
      };
      const start = (): void => {
        request.signal.removeEventListener('abort', leave);
        resolve(this.#turn(place, performance.now() - since));
      };
      const place: Waiting = { request, start, stepsLeft: request.steps };
      request.signal.addEventListener('abort', leave, { once: true });
      this.#line.push(place);
      this.#advance();
      if (this.#running !== place) this.#tell(place, this.#line.length - 1);
    });
  }

  #turn(place: Waiting, waitedMs: number): Turn {
    let released = false;
    return {
      waitedMs,
      progress: (stepsLeft) => {
        place.stepsLeft = stepsLeft;
      },
      release: () => {
        if (released) return;
        released = true;
        this.#running = undefined;
        this.#advance();
        this.#line.forEach((waiting, index) => {
          this.#tell(waiting, index);
        });
      },
    };
  }

  #advance(): void {
    if (this.#running !== undefined) return;
    this.#running = this.#line.shift();
    this.#running?.start();
  }

  #remove(place: Waiting): void {
    const index = this.#line.indexOf(place);
    if (index < 0) return;
    this.#line.splice(index, 1);
    this.#line.slice(index).forEach((waiting, offset) => {
      this.#tell(waiting, index + offset);
    });
  }

  #tell({ request }: Waiting, index: number): void {
    const before = this.#running === undefined ? [] : [this.#running];
    const ahead = [...before, ...this.#line.slice(0, index)].map(({ stepsLeft }) => stepsLeft);
    request.onPosition?.(ahead.length, ahead);
  }
}
