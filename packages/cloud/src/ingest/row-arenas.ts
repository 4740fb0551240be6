/**
 * Memory for the rows of flights, used again and again. Fresh memory for each run of lines costs more than writing the
 * rows does: the system clears its pages, and the garbage collector is woken by every few megabytes of it.
 */
export class RowArenas {
  readonly #bytes: number;
  readonly #most: number;
  readonly #free: Buffer[] = [];

  /** @param options.most arenas kept for later; more may be out at a time */
  constructor({ bytes, most }: { bytes: number; most: number }) {
    this.#bytes = bytes;
    this.#most = most;
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes);
  }

  /** Takes one back that nobody will read any more. */
  give(arena: Buffer): void {
    if (this.#free.length < this.#most) this.#free.push(arena);
  }
}
