import { tickMs } from './looks.ts';

const bufferBytes = 256 * 1024;

/**
 * What the readers of all log files share: one buffer, used in turns so that memory does not grow with the number of
 * containers and none of them waits for another's whole backlog, and one timer for all that are being written to.
 */
export class Turns {
  private readonly buffer = Buffer.allocUnsafeSlow(bufferBytes);
  private last: Promise<void> = Promise.resolve();
  private readonly ticks = new Map<number, Promise<void>>();

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

  /** Resolves at the next tick, at the same moment for all who wait for one of the same length. */
  nextTick(everyMs = tickMs): Promise<void> {
    const known = this.ticks.get(everyMs);
    if (known) return known;
    const tick = new Promise<void>((resolve) => {
      setTimeout(() => {
        this.ticks.delete(everyMs);
        resolve();
      }, everyMs);
    });
    this.ticks.set(everyMs, tick);
    return tick;
  }
}
