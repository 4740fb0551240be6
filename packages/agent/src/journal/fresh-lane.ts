import { withDeadline } from '../delivery/pause.ts';
import type { FeedLag, FreshLane } from '../logging/types.ts';
import { BatchReader, type CursorSource } from './batch-reader.ts';
import type { PassedLosses } from './passed-losses.ts';
import type { StoredBatch } from './stored-batch.ts';

export interface JournalFreshLaneOptions {
  source: CursorSource;
  /** Position of the last line that is not the lane's; the end of a batch. */
  start: number;
  /** Called once, when the lane is disposed of. */
  onClose: (lane: JournalFreshLane) => void;
}

/** The reader of what is written behind `start`, while its cursor is still busy with what lies before. */
export class JournalFreshLane implements FreshLane {
  readonly joined: AbortSignal;
  readonly start: number;
  readonly #source: CursorSource;
  readonly #reader: BatchReader;
  readonly #onClose: (lane: JournalFreshLane) => void;
  readonly #joined = new AbortController();
  #read: number;
  #acked: number;
  #sent: number;
  #closed = false;

  constructor({ source, start, onClose }: JournalFreshLaneOptions) {
    this.#source = source;
    this.#reader = new BatchReader(source);
    this.#onClose = onClose;
    this.joined = this.#joined.signal;
    this.start = start;
    this.#read = start;
    this.#acked = start;
    this.#sent = start;
  }

  /** Everything behind `start` up to here is confirmed. */
  get ackedPosition(): number {
    return this.#acked;
  }

  /** What is gone of what it has passed; its cursor puts it on record. */
  get losses(): PassedLosses {
    return this.#reader.losses;
  }

  async next(signal?: AbortSignal): Promise<StoredBatch | undefined> {
    const ends = [this.joined, this.#source.closed, ...(signal ? [signal] : [])];
    while (!this.#closed && !ends.some(({ aborted }) => aborted)) {
      const step = this.#reader.step(this.#read);
      if (!step || step.holdMs) {
        using end = withDeadline(ends, step?.holdMs ?? Number.POSITIVE_INFINITY);
        await this.#source.wait(end.signal);
        continue;
      }
      this.#read = step.position;
      this.#sent = Math.max(this.#sent, this.#read);
      if (step.batch) return step.batch;
    }
    return undefined;
  }

  ack(journal: string, seq: number): void {
    const position = this.#source.positionOf(journal, seq);
    if (this.#closed || position === undefined || position <= this.#acked || position > this.#sent) return;
    this.#acked = position;
    this.#read = Math.max(this.#read, position);
  }

  giveUp(journal: string, first: number, last: number): void {
    const from = this.#source.positionOf(journal, first);
    const through = this.#source.positionOf(journal, last);
    if (from !== undefined && through !== undefined) this.#reader.giveUp(from, through);
  }

  rewind(): void {
    this.#read = this.#acked;
    this.losses.rewind(this.#acked, []);
  }

  lag(): FeedLag {
    // A lane begins in the newest journal id, which changes only when the disk fails: then this is too much.
    return { lines: this.#source.newest() - this.#acked, lost: this.losses.lines };
  }

  /** The backlog has come up to `start`. */
  join(): void {
    this.#joined.abort();
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose(this);
  }
}
