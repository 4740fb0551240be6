/** How often a log that is being written to is looked at. */
export const tickMs = 20;
/**
 * The same for one that never rests. Its lines go out once a second, and most of what a look costs is waking up: at a
 * thousand lines a second that was half of all that the agent took.
 */
export const busyTickMs = 100;
/** So many looks in a row that each found something: two seconds of 50 lines and more. */
const busyLooks = 100;
/** Looks without anything new before the log is left to the kernel to watch. */
const quietLooks = 3;

/**
 * How soon a log is looked at again:
 *
 *   each 20 ms ── found something a hundred times in a row ──► each 100 ms ── found nothing ──► each 20 ms
 *       └─ found nothing three times in a row ──► left to the kernel to watch
 */
export class Looks {
  /** Whole files may come and go between two looks. */
  readonly isHurried: boolean;
  /** Nothing can come and go between two looks, be they the rare ones. */
  readonly hasTime: boolean;
  private readonly lookAgainMs: number;
  /** Looks in a row that found nothing. */
  private quiet = 0;
  /** Looks in a row that found something. */
  private busy = 0;

  /** @param options.lookAgainMs in less time no file can come and go */
  constructor({ lookAgainMs }: { lookAgainMs: number }) {
    this.lookAgainMs = lookAgainMs;
    this.isHurried = lookAgainMs < tickMs;
    this.hasTime = lookAgainMs >= 2 * busyTickMs;
  }

  /** There was something new, or there may be. */
  found(): void {
    this.quiet = 0;
  }

  /** Nothing was new since the last {@link next}. */
  get isQuiet(): boolean {
    return this.quiet > 0;
  }

  /** To be asked after each look: in how many ms to look again. `undefined`: when the kernel says so. */
  next(): number | undefined {
    this.busy = this.quiet === 0 ? this.busy + 1 : 0;
    this.quiet++;
    if (this.quiet > quietLooks) return undefined;
    if (this.isHurried) return this.lookAgainMs;
    return this.busy > busyLooks && this.hasTime ? busyTickMs : tickMs;
  }
}
