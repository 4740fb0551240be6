/**
 * When to sync. Every sync costs flash at least a page and a file-system commit, and every small batch its own
 * header, so it is their long-run rate that wears a card out, not a burst. Hence a budget: one credit per
 * `intervalMs`, up to `maxCredits`, and a sync takes one. With credits, a line is synced at once, or `minSpacingMs`
 * after the sync before it (neighbours share one); without, or once lines have come faster than `busyLinesPerSecond`
 * for some seconds, syncs keep `intervalMs` apart. An error hurries in either case. A device that talks little thus
 * always sends at once, and one that never stops syncs once per interval.
 */
export interface SyncBudgetOptions {
  /** Mean time between syncs in the long run. */
  intervalMs: number;
  /** Time between syncs while there are credits, and of errors. */
  minSpacingMs: number;
  maxCredits: number;
  /** From this rate on, grouping saves more than it costs anyone who watches. */
  busyLinesPerSecond: number;
}

/** Time over which the rate of lines is averaged: a burst of a second does not count as busy. */
const rateWindowMs = 5000;

export class SyncBudget {
  readonly #options: SyncBudgetOptions;
  #credits: number;
  #countedAtMs: number;
  #lastSyncMs = Number.NEGATIVE_INFINITY;
  /** Lines of the last {@link rateWindowMs}, those longer ago fading out. */
  #recentLines = 0;

  constructor(options: SyncBudgetOptions, nowMs: number) {
    this.#options = options;
    this.#credits = options.maxCredits;
    this.#countedAtMs = nowMs;
  }

  /** Milliseconds to wait before syncing a line that arrived now. `nowMs` is a monotonic clock. */
  delayMs(nowMs: number, urgent: boolean): number {
    this.#advance(nowMs);
    const { intervalMs, minSpacingMs, busyLinesPerSecond } = this.#options;
    const busy = this.#recentLines > (busyLinesPerSecond * rateWindowMs) / 1000;
    const spacing = urgent || (this.#credits >= 1 && !busy) ? minSpacingMs : intervalMs;
    return Math.max(0, this.#lastSyncMs + spacing - nowMs);
  }

  /** Notes a sync of so many lines. */
  spend(nowMs: number, lines: number): void {
    this.#advance(nowMs);
    this.#credits = Math.max(0, this.#credits - 1);
    this.#recentLines += lines;
    this.#lastSyncMs = nowMs;
  }

  #advance(nowMs: number): void {
    const passedMs = nowMs - this.#countedAtMs;
    this.#countedAtMs = nowMs;
    this.#credits = Math.min(this.#options.maxCredits, this.#credits + passedMs / this.#options.intervalMs);
    this.#recentLines *= Math.exp(-passedMs / rateWindowMs);
  }
}

/** The budget of a journal that syncs once per `intervalMs` in the long run. */
export function syncBudget(intervalMs = 1000): SyncBudget {
  const minSpacingMs = Math.min(25, intervalMs);
  return new SyncBudget(
    { intervalMs, minSpacingMs, maxCredits: 1000, busyLinesPerSecond: 50 },
    performance.now(),
  );
}
