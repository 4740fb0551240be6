/**
 * When to sync. Every sync costs flash at least a page and a file-system commit, and every small batch its own
 * header, so it is their long-run rate that wears a card out, not a burst. Hence a budget: one credit per
 * `intervalMs`, up to `maxCredits`, and a sync takes one. With credits, a line is synced at once, or `minSpacingMs`
 * after the sync before it (neighbours share one); without, or once lines have come faster than `busyLinesPerSecond`
 * for some seconds, syncs keep `intervalMs` apart. An error hurries in either case, unless there
 * were many of late: for them there are credits of their own, `maxUrgentCredits`, saved at the same rate. A device that
 * talks little thus always sends at once, and one that never stops, be it errors that it prints, syncs once per interval.
 */
export interface SyncBudgetOptions {
  /** Mean time between syncs in the long run. */
  intervalMs: number;
  /** Time between syncs while there are credits, and of errors. */
  minSpacingMs: number;
  maxCredits: number;
  maxUrgentCredits: number;
  /** From this rate on, grouping saves more than it costs anyone who watches. */
  busyLinesPerSecond: number;
}

/** Time over which the rate of lines is averaged: a burst of a second does not count as busy. */
const rateWindowMs = 5000;

export class SyncBudget {
  readonly #options: SyncBudgetOptions;
  #credits: number;
  #urgentCredits: number;
  #countedAtMs: number;
  #lastSyncMs = Number.NEGATIVE_INFINITY;
  /** Lines of the last {@link rateWindowMs}, those longer ago fading out. */
  #recentLines = 0;

  constructor(options: SyncBudgetOptions, nowMs: number) {
    this.#options = options;
    this.#credits = options.maxCredits;
    this.#urgentCredits = options.maxUrgentCredits;
    this.#countedAtMs = nowMs;
  }

  /** Milliseconds to wait before syncing a line that arrived now. `nowMs` is a monotonic clock. */
  delayMs(nowMs: number, urgent: boolean): number {
    this.#advance(nowMs);
    const { intervalMs, minSpacingMs } = this.#options;
    const hurries = this.#isRich || (urgent && this.#urgentCredits >= 1);
    const spacing = hurries ? minSpacingMs : intervalMs;
    return Math.max(0, this.#lastSyncMs + spacing - nowMs);
  }

  /** Notes a sync of so many lines, and whether there was an error among them that hurried. */
  spend(nowMs: number, lines: number, urgent: boolean): void {
    this.#advance(nowMs);
    if (urgent && !this.#isRich) this.#urgentCredits = Math.max(0, this.#urgentCredits - 1);
    this.#credits = Math.max(0, this.#credits - 1);
    this.#recentLines += lines;
    this.#lastSyncMs = nowMs;
  }

  /** Whether any line is worth a sync. */
  get #isRich(): boolean {
    const busyLines = (this.#options.busyLinesPerSecond * rateWindowMs) / 1000;
    return this.#credits >= 1 && this.#recentLines <= busyLines;
  }

  #advance(nowMs: number): void {
    const passedMs = nowMs - this.#countedAtMs;
    this.#countedAtMs = nowMs;
    const { intervalMs, maxCredits, maxUrgentCredits } = this.#options;
    const earned = passedMs / intervalMs;
    this.#credits = Math.min(maxCredits, this.#credits + earned);
    this.#urgentCredits = Math.min(maxUrgentCredits, this.#urgentCredits + earned);
    this.#recentLines *= Math.exp(-passedMs / rateWindowMs);
  }
}

/** The budget of a journal that syncs once per `intervalMs` in the long run. */
export function syncBudget(intervalMs = 1000): SyncBudget {
  const minSpacingMs = Math.min(25, intervalMs);
  return new SyncBudget(
    { intervalMs, minSpacingMs, maxCredits: 1000, maxUrgentCredits: 60, busyLinesPerSecond: 50 },
    performance.now(),
  );
}
