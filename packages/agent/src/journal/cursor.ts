import { limits } from '@millrace/wire';
import { withDeadline } from '../delivery/pause.ts';
import type { Feed, FeedLag } from '../logging/types.ts';
import type { JournalDisk } from './disk.ts';
import { linePosition, type Segment, splitPosition } from './segment.ts';
import { SegmentReader } from './segment-reader.ts';
import { StoredBatch } from './stored-batch.ts';

/** What a cursor sees of its journal. Positions are line positions. */
export interface CursorSource {
  oldest(): number;
  durable(): number;
  newest(): number;
  recentAfter(position: number): StoredBatch | undefined;
  segments(): readonly Segment[];
  readonly disk: JournalDisk | undefined;
  positionOf(journal: string, seq: number): number | undefined;
  /** Resolves when more has become durable, the journal closes, or the signal aborts. */
  wait(signal: AbortSignal | undefined): Promise<void>;
  readonly closed: AbortSignal;
  acked(): void;
  /** The batch with its lines' true times, as far as they are known by now. */
  corrected(batch: StoredBatch): StoredBatch;
  /** How long at most a batch should wait for the clock to be set; mostly 0. */
  holdMs(batch: StoredBatch): number;
  /** The first batch behind `position` that memory has, for when no segment has any. */
  onlyInMemoryAfter(position: number): StoredBatch | undefined;
  lost(loss: Loss): void;
}

/** Lines that a reader will never get. */
export interface Loss {
  count: number;
  /** Seqs, inclusive. */
  first: number;
  last: number;
  epoch: number;
  /** They lay before everything that is kept, and were not damaged further in. */
  dropped: boolean;
}

interface JournalCursorOptions {
  /** Position through which the far end had confirmed; `undefined` for a new reader. */
  start: number | undefined;
  source: CursorSource;
}

// A batch at least this large is handed out alone, as it lies.
const mergeBelowBytes = 32 * 1024;

/** A backend's place in the journal. Remembers what was read and what was confirmed. */
export class JournalCursor implements Feed {
  readonly #source: CursorSource;
  readonly #reader: SegmentReader | undefined;
  #read: number;
  #acked: number;
  /** The furthest that was ever handed out, whatever was rewound since. */
  #sent: number;
  #lost = 0;
  /** When, by a monotonic clock, a batch had to wait for the clock to be set for the first time. */
  #heldSinceMs: number | undefined;

  constructor({ start, source }: JournalCursorOptions) {
    this.#source = source;
    if (source.disk) this.#reader = new SegmentReader(source.disk, () => source.segments());
    // A saved place beyond the end means that the journal was cut: everything kept has been confirmed.
    this.#acked = Math.min(start ?? source.oldest() - 1, source.newest());
    this.#read = this.#acked;
    this.#sent = this.#acked;
  }

  get ackedPosition(): number {
    return this.#acked;
  }

  async next(signal?: AbortSignal): Promise<StoredBatch | undefined> {
    while (!signal?.aborted && !this.#source.closed.aborted) {
      const first = this.#after(this.#read);
      if (!first) {
        await this.#source.wait(signal);
        continue;
      }
      const holdMs = this.#holdMs(first);
      if (holdMs > 0) {
        using hold = withDeadline(signal ?? [], holdMs);
        await this.#source.wait(hold.signal);
        continue;
      }
      this.#noteGap(first);
      const whole = this.#source.corrected(first);
      const batch = this.#merged(whole.first <= this.#read ? whole.after(this.#read) : whole);
      this.#read = batch.last;
      this.#sent = Math.max(this.#sent, this.#read);
      return batch;
    }
    return undefined;
  }

  ack(journal: string, seq: number): void {
    const position = this.#source.positionOf(journal, seq);
    // Nothing beyond what was handed out can have been confirmed: a far end that says so is mistaken.
    if (position === undefined || position <= this.#acked || position > this.#sent) return;
    this.#acked = position;
    this.#read = Math.max(this.#read, position);
    this.#source.acked();
  }

  rewind(): void {
    this.#read = this.#acked;
  }

  lag(): FeedLag {
    const newest = splitPosition(this.#source.newest());
    const acked = splitPosition(this.#acked);
    if (newest.epoch === acked.epoch) return { lines: newest.seq - acked.seq, lost: this.#lost };
    // Over a change of journal id: all of the newest, and what remains of the older ids' segments.
    let lines = newest.seq;
    for (const segment of this.#source.segments()) {
      if (segment.epoch === newest.epoch || segment.last <= this.#acked) continue;
      lines += segment.last - Math.max(segment.first - 1, this.#acked);
    }
    return { lines, lost: this.#lost };
  }

  /** The rest of the time that a batch must wait. Once it has passed, no batch waits any more. */
  #holdMs(batch: StoredBatch): number {
    const holdMs = this.#source.holdMs(batch);
    if (holdMs === 0) return 0;
    this.#heldSinceMs ??= performance.now();
    return Math.max(0, this.#heldSinceMs + holdMs - performance.now());
  }

  #after(position: number): StoredBatch | undefined {
    if (position >= this.#source.durable()) return undefined;
    const recent = this.#source.recentAfter(position);
    if (recent) {
      // At the journal's end nothing is read from disk for a long time: let its buffer go.
      this.#reader?.reset();
      return recent;
    }
    return this.#reader?.after(position) ?? this.#source.onlyInMemoryAfter(position);
  }

  /** Lines that should lie between what was read and `batch`, and do not, are recorded as lost. */
  #noteGap(batch: StoredBatch): void {
    const expected = this.#read + 1;
    if (batch.first <= expected) return;
    const read = splitPosition(this.#read);
    const found = splitPosition(batch.first);
    const firstLost = read.epoch === found.epoch ? read.seq + 1 : 1;
    if (firstLost >= found.seq) return;
    const count = found.seq - firstLost;
    this.#lost += count;
    const dropped = linePosition(found.epoch, found.seq) <= this.#source.oldest();
    this.#read = batch.first - 1;
    this.#source.lost({ count, first: firstLost, last: found.seq - 1, epoch: found.epoch, dropped });
  }

  /** A small batch is joined by the small ones that follow it, as far as they are there already. */
  #merged(first: StoredBatch): StoredBatch {
    if (first.lines.length >= mergeBelowBytes) return first;
    const group = [first];
    let bytes = first.lines.length;
    let count = first.header.count;
    for (;;) {
      const tail = group.at(-1) as StoredBatch;
      const next = this.#after(tail.last);
      if (!next || next.epoch !== first.epoch || next.first !== tail.last + 1) break;
      if (this.#holdMs(next) > 0) break;
      const corrected = this.#source.corrected(next);
      bytes += corrected.lines.length;
      count += next.header.count;
      if (bytes > limits.maxBatchBytes - 256 || count > limits.maxBatchLines) break;
      group.push(corrected);
    }
    return StoredBatch.merge(group);
  }
}
