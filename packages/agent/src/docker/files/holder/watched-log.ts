import { closeSync, fstatSync, openSync } from 'node:fs';
import { identityAt, identityOf, openNewer } from '../newer.ts';
import type { HoldOrder, Report } from './messages.ts';

/** No file's identity. */
const none = '';

/** A log whose new files this process opens, and holds until they are taken over. */
export class WatchedLog {
  private hasEnded = false;
  private readonly order: HoldOrder;
  private readonly report: (report: Report) => void;
  private knownIdentity: string | undefined;
  private room: number;
  private nextMs = Number.NEGATIVE_INFINITY;
  /** Not taken over yet, oldest first. */
  private readonly fds: number[] = [];

  constructor(order: HoldOrder, report: (report: Report) => void) {
    this.order = order;
    this.report = report;
    this.knownIdentity = order.knownIdentity;
    this.room = order.room;
  }

  /** It has ended, and nothing of it is held. */
  get isDone(): boolean {
    return this.hasEnded && this.fds.length === 0;
  }

  /** Returns when it is to be looked at next, by `performance.now()`. */
  lookIfDue(nowMs: number): number {
    if (nowMs >= this.nextMs) {
      this.nextMs = nowMs + this.order.everyMs;
      this.look();
    }
    return this.nextMs;
  }

  /** Opens and reports what is new. */
  look(): void {
    if (this.hasEnded || this.room <= 0) return;
    const { log, path, plainFiles } = this.order;
    try {
      const identity = identityAt(path);
      // Where there is none, a rotation is under way.
      if (identity === undefined || identity === this.knownIdentity) return;
      const newer = openNewer(path, this.knownIdentity ?? none, open, plainFiles);
      const newest = newer?.files.at(-1);
      if (!newer || !newest) return;
      // The engine has not yet had to remove any.
      const isWhole = this.knownIdentity === undefined && newer.files.length < (plainFiles ?? 0);
      this.knownIdentity = newest.identity;
      this.room -= newer.files.length;
      const fds = newer.files.map(({ fd }) => fd);
      this.fds.push(...fds);
      this.report({ told: 'files', log, fds, isNext: newer.isNext || isWhole });
    } catch {
      // The agent meets it, too, and says what it is.
      this.end();
    }
  }

  taken(files: number): void {
    for (const fd of this.fds.splice(0, files)) closeSync(fd);
  }

  closed(files: number): void {
    this.room += files;
  }

  /** Reports that it has ended. What has been told of can still be taken over. */
  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.report({ told: 'ended', log: this.order.log });
  }

  discard(): void {
    this.end();
    this.taken(this.fds.length);
  }
}

function open(path: string): { fd: number; identity: string; close(): void } {
  const fd = openSync(path, 'r');
  return { fd, identity: identityOf(fstatSync(fd, { bigint: true })), close: () => closeSync(fd) };
}
