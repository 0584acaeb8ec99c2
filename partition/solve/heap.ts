/** A binary heap that says which variable to eliminate next. */

/** A variable with its score; the second number decides between equal first ones, and the lower index between equal scores. */
export interface Scored {
  readonly variable: number;
  readonly score: readonly [number, number];
}

const isBefore = (a: Scored, b: Scored): boolean => {
  if (a.score[0] !== b.score[0]) return a.score[0] < b.score[0];
  if (a.score[1] !== b.score[1]) return a.score[1] < b.score[1];
  return a.variable < b.variable;
};

/** Lowest score first. A variable that is pushed again replaces its earlier entry, which is skipped when it comes up. */
export class ScoreHeap {
  private readonly entries: Scored[] = [];
  private readonly current = new Map<number, Scored>();

  push(variable: number, score: readonly [number, number]): void {
    const entry = { variable, score };
    this.current.set(variable, entry);
    this.entries.push(entry);
    this.siftUp(this.entries.length - 1);
  }

  /** Removes the variable with the lowest score; `undefined` when none is left. */
  pop(): number | undefined {
    for (let top = this.removeTop(); top !== undefined; top = this.removeTop()) {
      if (this.current.get(top.variable) !== top) continue;
      this.current.delete(top.variable);
      return top.variable;
    }
    return undefined;
  }

  private removeTop(): Scored | undefined {
    const top = this.entries[0];
    const last = this.entries.pop();
    if (last !== undefined && this.entries.length > 0) {
      this.entries[0] = last;
      this.siftDown(0);
    }
    return top;
  }

  private isBefore(a: number, b: number): boolean {
    return isBefore(this.entries[a] as Scored, this.entries[b] as Scored);
  }

  private swap(a: number, b: number): void {
    const entry = this.entries[a] as Scored;
    this.entries[a] = this.entries[b] as Scored;
    this.entries[b] = entry;
  }

  private siftUp(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.isBefore(at, parent)) return;
      this.swap(at, parent);
      at = parent;
    }
  }

  private siftDown(from: number): void {
    for (let at = from; ; ) {
      const children = [2 * at + 1, 2 * at + 2].filter((child) => child < this.entries.length);
      const first = children.reduce((best, child) => (this.isBefore(child, best) ? child : best), at);
      if (first === at) return;
      this.swap(at, first);
      at = first;
    }
  }
}
