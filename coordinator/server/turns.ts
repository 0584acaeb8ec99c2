/**
 * One picture at a time, and clients in turn: who has nothing in line goes before the second picture of those who have, so that a
 * client with many requests delays another one by a single picture. Among a client's own, first come first served; a request for
 * several pictures takes a turn for each.
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
  /** Whose picture it is. */
  readonly client: string;
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
  /** Fair queuing: a client's pictures come in rounds of their own, one a round, and the line is in the order of rounds. */
  readonly round: number;
  stepsLeft: number;
}

export class Turns {
  readonly #line: Waiting[] = [];
  #running: Waiting | undefined;
  /** Of the picture that was made last. */
  #round = 0;

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
      const place: Waiting = { request, start, round: this.#nextRound(request.client), stepsLeft: request.steps };
      request.signal.addEventListener('abort', leave, { once: true });
      const index = this.#join(place);
      this.#advance();
      if (this.#running !== place) this.#tellFrom(index);
    });
  }

  /** The round after the client's last one that is in line or runs, and none that is over. */
  #nextRound(client: string): number {
    const current = this.#running?.round ?? this.#round;
    const running = this.#running === undefined ? [] : [this.#running];
    const own = [...running, ...this.#line].filter((place) => place.request.client === client);
    return Math.max(current, ...own.map(({ round }) => round + 1));
  }

  /** @returns its place in line */
  #join(place: Waiting): number {
    const later = this.#line.findIndex(({ round }) => round > place.round);
    const index = later < 0 ? this.#line.length : later;
    this.#line.splice(index, 0, place);
    return index;
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
        this.#round = place.round;
        this.#running = undefined;
        this.#advance();
        this.#tellFrom(0);
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
    this.#tellFrom(index);
  }

  #tellFrom(index: number): void {
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
