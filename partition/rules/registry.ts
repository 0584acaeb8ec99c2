/** How the registry is put together from the families of operators: a name that does not exist, or that two families have, fails the compiler. */
import type { OperatorName } from './names.js';
import type { Operator } from './rule.js';

/** A family's operators by name. */
export type Table = Readonly<Partial<Record<OperatorName, Operator>>>;

/** The same for several operators. */
export const each = <Name extends OperatorName>(names: readonly Name[], operator: Operator) =>
  Object.fromEntries(names.map((name) => [name, operator])) as Readonly<Record<Name, Operator>>;

/** Both families; what is in the one must not be in the other. */
export const join = <A extends Table, B extends Table & { readonly [Name in keyof A]?: never }>(a: A, b: B): A & B => ({
  ...a,
  ...b,
});
