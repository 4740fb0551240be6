import { setTimeout as pause } from 'node:timers/promises';

export interface UntilOptions {
  /** Fails after this long. Default 50 s: no more than a mistake costs, and as much as a machine with a lot to do needs. */
  timeoutMs?: number;
  /** Said when it fails: what was waited for. A function is asked at the moment of failure. */
  what?: string | (() => string);
}

const askEveryMs = 10;
const askAtLeastEveryMs = 200;

/**
 * Waits for a condition by asking every 10 ms, and returns what it gave. Throws when it does not come true in time. One
 * that takes long to answer is asked less often: it runs on the cores that shall make it come true.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = 50_000, what = 'the condition' }: UntilOptions = {},
): Promise<NonNullable<T>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const askedMs = performance.now();
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (Date.now() > deadline) {
      throw new Error(
        `timed out after ${timeoutMs} ms waiting for ${typeof what === 'function' ? what() : what}`,
      );
    }
    const pauseMs = 3 * (performance.now() - askedMs);
    await pause(Math.min(Math.max(pauseMs, askEveryMs), askAtLeastEveryMs));
  }
}
