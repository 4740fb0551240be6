import type { MillraceError } from '@millrace/wire';
import { Backoff, type BackoffOptions } from '../../delivery/backoff.ts';

interface Hold {
  /** The step taken last, see `stepText`. */
  text: string;
  takenMs: number;
  untilMs: number;
  backoff: Backoff;
  error?: MillraceError;
}

/** A step that comes again after this long is no repetition. */
const forgottenMs = 300_000;

/**
 * When each key may be tried again. A step that fails waits ever longer, and so does one that succeeds and is asked
 * for once more: whatever undoes it, the engine is not kept busy with it.
 */
export class Holds {
  readonly #retry: BackoffOptions;
  readonly #holds = new Map<string, Hold>();

  constructor(retry: BackoffOptions) {
    this.#retry = retry;
  }

  /** How long a step has to wait yet, in ms. */
  waitMs(key: string, text: string): number {
    const hold = this.#holds.get(key);
    if (hold?.text !== text) return 0;
    return Math.max(0, hold.untilMs - performance.now());
  }

  /** Why that step failed, if it was the last of its key. */
  error(key: string, text: string): MillraceError | undefined {
    const hold = this.#holds.get(key);
    return hold?.text === text ? hold.error : undefined;
  }

  /** @returns how long it will be until the same may be tried again, in ms */
  taken(key: string, text: string, error?: MillraceError): number {
    const nowMs = performance.now();
    const before = this.#holds.get(key);
    const isRepeated = before?.text === text && nowMs - before.takenMs < forgottenMs;
    const backoff = isRepeated ? before.backoff : new Backoff(this.#retry);
    const waitMs = error || isRepeated ? backoff.nextMs() : 0;
    this.#holds.set(key, { text, takenMs: nowMs, untilMs: nowMs + waitMs, backoff, ...(error && { error }) });
    return waitMs;
  }

  /** Everything of an app may be tried at once: it was asked for anew. */
  forget(appId: number): void {
    for (const key of this.#holds.keys()) {
      if (key.startsWith(`${appId}/`) || key.startsWith(`${appId} `)) this.#holds.delete(key);
    }
  }
}
