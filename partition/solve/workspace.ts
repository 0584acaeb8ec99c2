/**
 * The problem while it is being reduced: at most one table per pair of variables, and each variable's states that are
 * still in play. Tables are replaced, never written to, so the caller's own arrays are safe.
 */

import type { CostGraph } from './cost-graph.js';
import { type CostTable, rowMajor, strideOf } from './cost-table.js';
import { impossible } from './errors.js';

const add = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, index) => value + (b[index] as number));

const diagonal = (cost: Float64Array, size: number): Float64Array =>
  Float64Array.from({ length: size }, (_, state) => cost[state * (size + 1)] as number);

export class Workspace {
  /** Of each variable, the states in play by their index in the caller's domain, ascending. */
  private readonly statesOf: Int32Array[];
  private readonly unaryOf: Float64Array[];
  private readonly pairsOf: Map<number, CostTable>[];
  /** Variables whose costs or states changed since `takeChanged`. */
  private changed = new Set<number>();
  /** Variables not yet eliminated. */
  readonly remaining: Set<number>;

  constructor(graph: CostGraph) {
    this.statesOf = graph.domains.map((size) => Int32Array.from({ length: size }, (_, state) => state));
    this.unaryOf = [...graph.unary];
    this.pairsOf = graph.domains.map(() => new Map());
    this.remaining = new Set(graph.domains.keys());
    for (const { a, b, cost } of graph.pairs) {
      if (a === b) this.addUnary(a, diagonal(cost, this.size(a)));
      else this.addPair(a, b, cost);
    }
    for (const variable of this.remaining) this.changed.add(variable);
  }

  /** The same problem, to be reduced in another way. */
  copy(): Workspace {
    const copy = new Workspace({ domains: [], unary: [], pairs: [] });
    copy.statesOf.push(...this.statesOf);
    copy.unaryOf.push(...this.unaryOf);
    copy.pairsOf.push(...this.pairsOf.map((tables) => new Map(tables)));
    for (const variable of this.remaining) copy.remaining.add(variable);
    copy.changed = new Set(this.changed);
    return copy;
  }

  states(variable: number): Int32Array {
    return this.statesOf[variable] as Int32Array;
  }

  size(variable: number): number {
    return this.states(variable).length;
  }

  unary(variable: number): Float64Array {
    return this.unaryOf[variable] as Float64Array;
  }

  /** Neighbour -> the one table shared with it. */
  pairs(variable: number): ReadonlyMap<number, CostTable> {
    return this.pairsMutable(variable);
  }

  degree(variable: number): number {
    return this.pairs(variable).size;
  }

  /** Neighbours, lowest index first. */
  neighbours(variable: number): number[] {
    return [...this.pairs(variable).keys()].sort((a, b) => a - b);
  }

  /** All tables that mention the variable. */
  tables(variable: number): CostTable[] {
    return [
      { scope: [variable], strides: [1], cost: this.unary(variable) },
      ...this.neighbours(variable).map((other) => this.pair(variable, other)),
    ];
  }

  /** @param cost `[size(variable)]` */
  addUnary(variable: number, cost: Float64Array): void {
    this.unaryOf[variable] = add(this.unary(variable), cost);
    this.changed.add(variable);
  }

  /** @param cost `[size(a), size(b)]`, row-major */
  addPair(a: number, b: number, cost: Float64Array): void {
    const present = this.pairs(a).get(b);
    const sum = present === undefined ? cost : add(this.oriented(present, a, b), cost);
    this.setPair(a, b, rowMajor([a, b], [this.size(a), this.size(b)], sum));
  }

  /** The costs that a variable's neighbour has when the variable is in a state: `[size(other)]`. */
  row(variable: number, state: number, other: number): Float64Array {
    const table = this.pair(variable, other);
    const [start, step] = [state * strideOf(table, variable), strideOf(table, other)];
    const row = new Float64Array(this.size(other));
    for (let index = 0; index < row.length; index++) row[index] = table.cost[start + index * step] as number;
    return row;
  }

  /** Whether the state is allowed with at least one state of the neighbour. */
  isSupported(variable: number, state: number, other: number): boolean {
    const table = this.pair(variable, other);
    const [start, step] = [state * strideOf(table, variable), strideOf(table, other)];
    const size = this.size(other);
    for (let index = 0; index < size; index++) {
      if (table.cost[start + index * step] !== Number.POSITIVE_INFINITY) return true;
    }
    return false;
  }

  /**
   * Takes all other states of the variable out of play.
   * @param kept indexes into `states(variable)`, ascending
   * @throws TandemError PLAN_IMPOSSIBLE when none is left
   */
  keepStates(variable: number, kept: readonly number[]): void {
    if (kept.length === 0)
      throw impossible(`every state of variable ${variable} is forbidden by itself or by a neighbour`);
    if (kept.length === this.size(variable)) return;
    const others = this.neighbours(variable);
    const rows = others.map((other) => kept.map((state) => this.row(variable, state, other)));
    const [states, unary] = [this.states(variable), this.unary(variable)];
    this.statesOf[variable] = Int32Array.from(kept, (state) => states[state] as number);
    this.unaryOf[variable] = Float64Array.from(kept, (state) => unary[state] as number);
    for (const [index, other] of others.entries()) {
      const cost = Float64Array.from((rows[index] ?? []).flatMap((row) => [...row]));
      this.setPair(variable, other, rowMajor([variable, other], [kept.length, this.size(other)], cost));
    }
  }

  /** Takes the variable and its tables out; its neighbours count as changed. */
  remove(variable: number): void {
    for (const other of this.neighbours(variable)) {
      this.pairsMutable(other).delete(variable);
      this.changed.add(other);
    }
    this.pairsMutable(variable).clear();
    this.remaining.delete(variable);
  }

  /** The variables still in play that changed since the last call, lowest index first. */
  takeChanged(): number[] {
    const taken = [...this.changed].filter((variable) => this.remaining.has(variable)).sort((a, b) => a - b);
    this.changed = new Set();
    return taken;
  }

  private pair(variable: number, other: number): CostTable {
    return this.pairs(variable).get(other) as CostTable;
  }

  private pairsMutable(variable: number): Map<number, CostTable> {
    return this.pairsOf[variable] as Map<number, CostTable>;
  }

  private setPair(a: number, b: number, table: CostTable): void {
    this.pairsMutable(a).set(b, table);
    this.pairsMutable(b).set(a, table);
    this.changed.add(a).add(b);
  }

  /** The table's entries as `[size(a), size(b)]`, row-major. */
  private oriented(table: CostTable, a: number, b: number): Float64Array {
    if (table.scope[0] === a) return table.cost;
    const [columns, stride, step] = [this.size(b), strideOf(table, a), strideOf(table, b)];
    return table.cost.map((_, index) => {
      const row = Math.floor(index / columns);
      return table.cost[row * stride + (index - row * columns) * step] as number;
    });
  }
}
