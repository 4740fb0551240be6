import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * How many files of a log were never seen, by the kernel's account: it tells each time that the log's name is given up
 * or taken, which is twice for a rotation. What it tells comes late but complete, and so all numbers are right once
 * {@link told} has resolved.
 */
export class RotationCount {
  renames = 0;
  /** Files that were opened behind others. */
  seen = 0;
  /** Since {@link begin} every rotation is counted. */
  isExact = false;

  /** Nothing is missing so far, and the log's name means a file: no rotation is under way. */
  begin(): void {
    this.renames = 2 * this.seen;
    this.isExact = true;
  }

  end(): void {
    this.isExact = false;
  }

  /** Resolves when the kernel has been asked once more: in this turn of the event loop it may have been already. */
  async told(): Promise<void> {
    await nextTurn();
    await nextTurn();
  }

  /** Files that have come and gone since it was last asked; each counts once. */
  missed(): number {
    if (!this.isExact) return 0;
    const files = Math.max(0, Math.floor(this.renames / 2) - this.seen);
    this.seen += files;
    return files;
  }
}
