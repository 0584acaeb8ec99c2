/** Takes turns: A, B, C, A, B, C ... so that whatever disturbs the machine disturbs all that are compared. */
export class Alternation {
  readonly #count: number;
  readonly #waiting = new Map<number, { readonly go: () => void; readonly fail: (error: unknown) => void }>();
  #next = 0;
  #failed: { readonly error: unknown } | undefined;

  /** @param count how many take part, numbered from 0 */
  constructor(count: number) {
    this.#count = count;
  }

  /**
   * Runs `work` when it is this one's turn, then passes the turn on.
   * @throws what `work` throws; everyone else's turn then ends with the same error, or they would wait for ever
   */
  async take<T>(index: number, work: () => Promise<T>): Promise<T> {
    await this.#mine(index);
    try {
      const result = await work();
      this.#next = (index + 1) % this.#count;
      this.#wake();
      return result;
    } catch (error) {
      this.#failed = { error };
      for (const { fail } of this.#waiting.values()) fail(error);
      throw error;
    }
  }

  async #mine(index: number): Promise<void> {
    if (this.#failed) throw this.#failed.error;
    if (this.#next === index) return;
    await new Promise<void>((go, fail) => this.#waiting.set(index, { go, fail }));
  }

  #wake(): void {
    const waiter = this.#waiting.get(this.#next);
    this.#waiting.delete(this.#next);
    waiter?.go();
  }
}
