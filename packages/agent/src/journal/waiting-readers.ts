/** Readers at the journal's end that wait for more. */
export class WaitingReaders {
  readonly #closed: AbortSignal;
  readonly #waiting = new Set<() => void>();

  /** @param closed aborted, right before a {@link wake}, when nothing more will come */
  constructor(closed: AbortSignal) {
    this.#closed = closed;
  }

  /** Resolves at the next {@link wake}, or when the signal is aborted. */
  wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      this.#waiting.add(done);
      signal?.addEventListener('abort', done);
      if (signal?.aborted || this.#closed.aborted) done();
    });
  }

  wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
