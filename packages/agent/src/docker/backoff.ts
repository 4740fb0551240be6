import { setTimeout as pause } from 'node:timers/promises';

export interface BackoffOptions {
  minMs: number;
  maxMs: number;
}

/**
 * Waits between attempts: up to `minMs` at first, twice that after each further failure, up to `maxMs`. Each wait
 * is a random half to whole of that, so that many devices don't come back at the same moment.
 */
export class Backoff {
  private readonly options: BackoffOptions;
  private failures = 0;

  constructor(options: BackoffOptions) {
    this.options = options;
  }

  reset(): void {
    this.failures = 0;
  }

  /** Resolves after the next wait, or at once when the signal is aborted. */
  async wait(signal: AbortSignal): Promise<void> {
    const { minMs, maxMs } = this.options;
    const boundMs = Math.min(maxMs, minMs * 2 ** this.failures);
    if (boundMs < maxMs) this.failures++;
    try {
      await pause(boundMs * (0.5 + Math.random() / 2), undefined, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
