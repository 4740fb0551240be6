const bufferBytes = 256 * 1024;
/** How often a log that is being written to is looked at. */
export const tickMs = 20;

/**
 * What the readers of all log files share: one buffer, used in turns so that memory does not grow with the number of
 * containers and none of them waits for another's whole backlog, and one timer for all that are being written to.
 */
export class Turns {
  private readonly buffer = Buffer.allocUnsafeSlow(bufferBytes);
  private last: Promise<void> = Promise.resolve();
  private tick: Promise<void> | undefined;

  /** Runs `work` when everybody before has had a turn. The buffer is its own meanwhile. */
  async take<T>(work: (buffer: Buffer) => Promise<T>): Promise<T> {
    const before = this.last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.last = promise;
    await before;
    try {
      return await work(this.buffer);
    } finally {
      resolve();
    }
  }

  /** Resolves at the next tick, at the same moment for all who wait. */
  nextTick(): Promise<void> {
    this.tick ??= new Promise((resolve) => {
      setTimeout(() => {
        this.tick = undefined;
        resolve();
      }, tickMs);
    });
    return this.tick;
  }
}
