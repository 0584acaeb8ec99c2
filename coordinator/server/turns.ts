/**
 * Which pictures are made at present. Several are: their steps alternate on the workers, so that a short one is never held up by a long
 * one for more than a step. Beyond so many, clients wait in turn: who has nothing in line goes before the second picture of those
 * who have, and who has no picture under way need not wait at all. Among a client's own, first come first served; a request for
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
  /** Told how many are ahead, the running ones included; first when the request joins the line. */
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
  readonly #most: number;
  readonly #line: Waiting[] = [];
  readonly #running = new Set<Waiting>();
  /** Of the picture that was begun last. */
  #round = 0;

  /** @param most pictures at a time, unless they are of as many clients */
  constructor(most: number) {
    this.#most = most;
  }

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    return this.#line.length;
  }

  /** Steps that all have to make until the first running picture is done; undefined while none runs. */
  get stepsToNextEnd(): number | undefined {
    if (this.#running.size === 0) return undefined;
    return this.#running.size * Math.min(...[...this.#running].map(({ stepsLeft }) => stepsLeft));
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
      if (!this.#running.has(place)) this.#tellFrom(index);
    });
  }

  /** The round after the client's last one that is in line or runs, and none that is over. */
  #nextRound(client: string): number {
    const own = [...this.#running, ...this.#line].filter((place) => place.request.client === client);
    return Math.max(this.#round, ...own.map(({ round }) => round + 1));
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
        this.#running.delete(place);
        this.#advance();
        this.#tellFrom(0);
      },
    };
  }

  #advance(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#line.splice(this.#line.indexOf(next), 1);
      this.#running.add(next);
      this.#round = Math.max(this.#round, next.round);
      next.start();
    }
  }

  /** The first in line where there is room, else the first of a client of whom none runs. */
  #next(): Waiting | undefined {
    if (this.#running.size < this.#most) return this.#line[0];
    const clients = new Set([...this.#running].map(({ request }) => request.client));
    return this.#line.find(({ request }) => !clients.has(request.client));
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
    const ahead = [...this.#running, ...this.#line.slice(0, index)].map(({ stepsLeft }) => stepsLeft);
    request.onPosition?.(ahead.length, ahead);
  }
}
