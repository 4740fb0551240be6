/**
 * When to sync. Every sync costs flash at least a page and a file-system commit, so it is their long-run rate
 * that wears a card out, not a burst. Hence a budget: one credit per `intervalMs`, up to `maxCredits`, and a
 * sync takes one. With credits, a line is synced at once, or `minSpacingMs` after the sync before it (neighbours
 * share one); without, syncs keep `intervalMs` apart. An error hurries in either case. A device that talks
 * little thus always sends at once, and one that never stops syncs once per interval.
 */
export interface SyncBudgetOptions {
  /** Mean time between syncs in the long run. */
  intervalMs: number;
  /** Time between syncs while there are credits, and of errors. */
  minSpacingMs: number;
  maxCredits: number;
}

export class SyncBudget {
  readonly #options: SyncBudgetOptions;
  #credits: number;
  #countedAtMs: number;
  #lastSyncMs = Number.NEGATIVE_INFINITY;

  constructor(options: SyncBudgetOptions, nowMs: number) {
    this.#options = options;
    this.#credits = options.maxCredits;
    this.#countedAtMs = nowMs;
  }

  /** Milliseconds to wait before syncing a line that arrived now. `nowMs` is a monotonic clock. */
  delayMs(nowMs: number, urgent: boolean): number {
    this.#refill(nowMs);
    const { intervalMs, minSpacingMs } = this.#options;
    const spacing = urgent || this.#credits >= 1 ? minSpacingMs : intervalMs;
    return Math.max(0, this.#lastSyncMs + spacing - nowMs);
  }

  /** Notes a sync. */
  spend(nowMs: number): void {
    this.#refill(nowMs);
    this.#credits = Math.max(0, this.#credits - 1);
    this.#lastSyncMs = nowMs;
  }

  #refill(nowMs: number): void {
    const earned = (nowMs - this.#countedAtMs) / this.#options.intervalMs;
    this.#credits = Math.min(this.#options.maxCredits, this.#credits + earned);
    this.#countedAtMs = nowMs;
  }
}
