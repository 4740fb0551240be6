import { setTimeout as pause } from 'node:timers/promises';

export interface UntilOptions {
  /** Fails after this long. Default 20 s. */
  timeoutMs?: number;
  /** Said when it fails: what was waited for. A function is asked at the moment of failure. */
  what?: string | (() => string);
}

/** Waits for a condition by asking every 10 ms, and returns what it gave. Throws when it does not come true in time. */
export async function until<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = 20_000, what = 'the condition' }: UntilOptions = {},
): Promise<NonNullable<T>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (Date.now() > deadline) {
      throw new Error(
        `timed out after ${timeoutMs} ms waiting for ${typeof what === 'function' ? what() : what}`,
      );
    }
    await pause(10);
  }
}
