/** The places of further hosts in a cluster: who sits where, who waits for whom, and who may take a lost host's place. */
import { TandemError } from '../../common/errors.js';
import type { Seat as SeatConfig } from '../config/index.js';
import type { Guest } from './guest.js';
import type { RemoteWorker } from './remote-worker.js';

export interface Seat extends SeatConfig {
  guest: Guest | undefined;
  /** Those whose end nobody has told yet. */
  workers: RemoteWorker[];
}

export const refusePlace = (why: string): TandemError => new TandemError('JOIN_PLACE', why);

/** The seat that a host may have: its own by name, its number's, or any that is free. */
const seatOf = (seats: readonly Seat[], { join }: Guest): Seat | undefined => {
  const named = seats.find(({ name, isNumbered }) => !isNumbered && name === join.name);
  if (named !== undefined) return named;
  const numbered = seats.filter(({ isNumbered }) => isNumbered);
  if (join.index !== undefined) return numbered.find(({ name }) => name === String(join.index));
  return numbered.find(({ guest }) => guest === undefined);
};

export class Seats {
  readonly all: readonly Seat[];
  readonly #spares: Guest[] = [];

  constructor(seats: readonly SeatConfig[]) {
    this.all = seats.map((seat) => ({ ...seat, guest: undefined, workers: [] }));
  }

  get missing(): readonly string[] {
    return this.all.flatMap(({ name, guest }) => (guest === undefined ? [name] : []));
  }

  get guests(): readonly Guest[] {
    return [...this.all.flatMap(({ guest }) => guest ?? []), ...this.#spares];
  }

  byName(name: string): Seat | undefined {
    return this.all.find((seat) => seat.name === name);
  }

  /** The one that this host is, if it has joined before and was not seen to go: it holds its own seat. */
  holderFor(guest: Guest): Guest | undefined {
    const { join } = guest;
    return this.guests.find(
      (other) => other.join.instance === join.instance || (other !== guest && this.#claims(guest) === other),
    );
  }

  /** Who sits where a host wants to sit and no other will do. */
  #claims(guest: Guest): Guest | undefined {
    return seatOf(this.all, guest)?.guest;
  }

  /** @returns the seat that was taken; undefined for a spare */
  take(guest: Guest): Seat | undefined {
    const seat = seatOf(this.all, guest);
    const free = seat?.guest === undefined ? seat : undefined;
    if (free === undefined) this.#spares.push(guest);
    else free.guest = guest;
    return free;
  }

  /** @returns the seat that became free, with the spare that sits there now */
  leave(guest: Guest): Seat | undefined {
    const spare = this.#spares.indexOf(guest);
    if (spare >= 0) this.#spares.splice(spare, 1);
    const seat = this.all.find((one) => one.guest === guest);
    if (seat === undefined) return undefined;
    seat.guest = this.#spares.shift();
    return seat;
  }

  isSpare(guest: Guest): boolean {
    return this.#spares.includes(guest);
  }
}
