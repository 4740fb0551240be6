import { closeSync, openSync } from 'node:fs';
import type { HeldFiles, Order, Report } from './messages.ts';

export interface HeldLogOptions {
  /** What the holder's process knows it by. */
  log: number;
  /** Of the holder's process. */
  pid: number;
  /** How many files may be held. */
  room: number;
  tell(order: Order): void;
  onEnded(): void;
}

/** Then it is stopped, or gone without a word. */
const answerMs = 1000;
/** Such a share of those that may be held is told of at once when they have been closed. */
const toldShare = 1 / 32;

/** A log whose new files are opened by the holder's process, and taken over by whoever reads it. */
export class HeldLog {
  /** Nothing comes behind what {@link take} gives, and whoever reads the log looks for himself again. */
  hasEnded = false;
  /** When files came last, by `performance.now()`. */
  lastMs = performance.now();
  private readonly options: HeldLogOptions;
  private readonly waiting: HeldFiles[] = [];
  private isAbandoned = false;
  private asks = 0;
  private asked: { ask: number; answered(): void } | undefined;
  private closedFiles = 0;

  constructor(options: HeldLogOptions) {
    this.options = options;
  }

  /** What has been opened since this was last called, oldest first. Whoever takes it closes it. */
  take(): HeldFiles[] {
    return this.waiting.splice(0);
  }

  /** A file was read to its end and closed. */
  closed(): void {
    if (++this.closedFiles >= this.options.room * toldShare) this.tellClosed();
  }

  /** Resolves when it has been looked at since, and all that was new can be taken; or it has ended. */
  async looked(): Promise<void> {
    if (this.hasEnded) return;
    const ask = ++this.asks;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => this.abandon(), answerMs);
    this.asked = { ask, answered: resolve };
    this.tellClosed();
    this.tell({ do: 'look', log: this.options.log, ask });
    await promise;
    clearTimeout(timer);
  }

  /** Asks for no more looks. */
  end(): void {
    if (!this.hasEnded) this.tell({ do: 'end', log: this.options.log });
  }

  /** Ends it, and closes what has come. */
  discard(): void {
    for (const { fds } of this.take()) closeAll(fds);
    this.abandon();
  }

  /** The process is gone, and its number may be another's. */
  processEnded(): void {
    this.isAbandoned = true;
    this.ended();
  }

  receive(report: Exclude<Report, { told: 'ready' }>): void {
    if (this.isAbandoned) return;
    if (report.told === 'ended') this.ended();
    else if (report.told === 'looked') {
      if (report.ask === this.asked?.ask) this.asked.answered();
    } else this.takeOver(report);
  }

  private tellClosed(): void {
    if (this.closedFiles > 0) this.tell({ do: 'closed', log: this.options.log, files: this.closedFiles });
    this.closedFiles = 0;
  }

  private takeOver({ fds: theirs, isNext }: HeldFiles): void {
    const { log, pid } = this.options;
    this.lastMs = performance.now();
    const fds: number[] = [];
    try {
      for (const fd of theirs) fds.push(openSync(`/proc/${pid}/fd/${fd}`, 'r'));
    } catch {
      // The process is gone, or no more files can be opened: what is missing is found missing.
      closeAll(fds);
      this.abandon();
      return;
    }
    this.waiting.push({ fds, isNext });
    this.tell({ do: 'taken', log, files: theirs.length });
  }

  /** What it may still tell of is not wanted. */
  private abandon(): void {
    if (this.isAbandoned) return;
    this.isAbandoned = true;
    this.tell({ do: 'discard', log: this.options.log });
    this.ended();
  }

  private tell(order: Order): void {
    this.options.tell(order);
  }

  private ended(): void {
    this.asked?.answered();
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.options.onEnded();
  }
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}
