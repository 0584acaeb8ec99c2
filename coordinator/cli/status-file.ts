/** The state of a process in a file, for probes that can run a command and look at a file's time. */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

export class StatusFile {
  readonly #path: string | undefined;

  constructor(path: string | undefined) {
    this.#path = path === undefined ? undefined : resolve(path);
  }

  /** @throws where the file cannot be written */
  tell(state: string): void {
    if (this.#path === undefined) return;
    writeFileSync(`${this.#path}.new`, `${state}\n`);
    renameSync(`${this.#path}.new`, this.#path);
  }

  remove(): void {
    if (this.#path !== undefined) rmSync(this.#path, { force: true });
  }
}
