import { orAborted, withDeadline } from '../delivery/pause.ts';
import type { Feed, FeedLag, FreshLane } from '../logging/types.ts';
import { BatchReader, type CursorSource } from './batch-reader.ts';
import { JournalFreshLane } from './fresh-lane.ts';
import type { Loss } from './passed-losses.ts';
import { linePosition, splitPosition } from './segment.ts';
import type { StoredBatch } from './stored-batch.ts';

interface JournalCursorOptions {
  /** Position through which the far end had confirmed; `undefined` for a new reader. */
  start: number | undefined;
  source: CursorSource;
}

/** Positions, both included. */
interface Island {
  from: number;
  to: number;
}

// With fewer lines to read than this the newest are there in a moment anyway.
const farBehindLines = 2000;
// How old, and how many, the lines written before a lane is opened may be to be its first.
const recentMs = 10_000;
const maxRecentLines = 500;
// Each reconnecting during one backlog may leave one. Past this many the lowest is forgotten, and sent again.
const maxIslands = 100;

/**
 * A backend's place in the journal. Remembers what was read and what was confirmed.
 *
 *   confirmed ──────────┤ backlog …  ├─ island ─┤ … backlog  ├─ fresh lane ──►
 *                    acked        read                      start
 *
 * Far behind, it reads in two lanes: this one the backlog, a {@link JournalFreshLane} what is written from `start`
 * on. When the backlog is confirmed up to `start`, the lane ends and the cursor jumps behind what it had confirmed.
 * A lane that ends before (a broken connection) leaves an *island* of confirmed lines, which the backlog skips.
 * Only `acked` is saved: after a restart lanes and islands are sent again, and recognised by their seqs.
 */
export class JournalCursor implements Feed {
  readonly #source: CursorSource;
  readonly #reader: BatchReader;
  #read: number;
  #acked: number;
  /** The furthest that was ever handed out, whatever was rewound since. */
  #sent: number;
  /** The furthest that was handed out since the last rewind. */
  #handed: number;
  /** In order, behind `#acked`. */
  #islands: Island[] = [];
  #fresh: JournalFreshLane | undefined;
  #freshClosed = Promise.withResolvers<void>();
  /** Set while losses are put on record, which may save the cursors: up to where that is done. */
  #recordedTo: number | undefined;

  constructor({ start, source }: JournalCursorOptions) {
    this.#source = source;
    this.#reader = new BatchReader(source);
    // A saved place beyond the end means that the journal was cut: everything kept has been confirmed.
    this.#acked = Math.min(start ?? source.oldest() - 1, source.newest());
    this.#read = this.#acked;
    this.#sent = this.#acked;
    this.#handed = this.#acked;
  }

  get ackedPosition(): number {
    return this.#acked;
  }

  /** Where the reader must go on after a restart: what it has passed and lost up to here is on record. */
  get savedPosition(): number {
    return this.#recordedTo ?? this.#reader.losses.savedPosition(this.#acked);
  }

  async next(signal?: AbortSignal): Promise<StoredBatch | undefined> {
    while (!signal?.aborted && !this.#source.closed.aborted) {
      const edge = this.#edge();
      if (this.#fresh && this.#read >= this.#fresh.start) {
        await this.#waitForLane(this.#fresh, signal);
        continue;
      }
      const step = this.#reader.step(this.#read, edge);
      if (!step || step.holdMs) {
        using hold = withDeadline(signal ?? [], step?.holdMs ?? Number.POSITIVE_INFINITY);
        await this.#source.wait(hold.signal);
        continue;
      }
      this.#read = step.position;
      if (!step.batch) {
        this.#passGaps();
        continue;
      }
      // Behind it more may have been shed, which nobody confirms.
      this.#handed = linePosition(step.batch.epoch, step.batch.lastSeq);
      this.#sent = Math.max(this.#sent, this.#read);
      return step.batch;
    }
    return undefined;
  }

  ack(journal: string, seq: number): void {
    const position = this.#source.positionOf(journal, seq);
    // Nothing beyond what was handed out can have been confirmed: a far end that says so is mistaken.
    if (position === undefined || position <= this.#acked || position > this.#sent) return;
    this.#confirm(position);
  }

  giveUp(journal: string, first: number, last: number): void {
    const from = this.#source.positionOf(journal, first);
    const through = this.#source.positionOf(journal, last);
    if (from !== undefined && through !== undefined) this.#reader.giveUp(from, through);
  }

  rewind(): void {
    this.#read = this.#acked;
    this.#handed = this.#acked;
    this.#reader.losses.rewind(this.#acked, this.#islands);
  }

  /** Puts on record what is lost for good so far. */
  settle(): void {
    const saved = this.savedPosition;
    const losses = this.#reader.losses.settle();
    this.#record(saved, losses);
    // The place moves with the record.
    if (losses.length > 0) this.#source.acked();
  }

  fresh(): FreshLane | undefined {
    if (this.#fresh || this.#source.closed.aborted) return undefined;
    const start = this.#freshStart();
    if (this.#lines(this.#read, start) - this.#inIslands(this.#read) < farBehindLines) return undefined;
    this.#freshClosed = Promise.withResolvers<void>();
    this.#fresh = new JournalFreshLane({
      source: this.#source,
      start,
      onClose: (lane) => this.#closeLane(lane),
    });
    return this.#fresh;
  }

  lag(): FeedLag {
    const fresh = this.#fresh;
    const ahead = this.#inIslands(this.#acked) + (fresh ? fresh.ackedPosition - fresh.start : 0);
    return {
      lines: this.#lines(this.#acked, this.#source.newest()) - ahead,
      lost: this.#reader.losses.lines + (fresh?.losses.lines ?? 0),
    };
  }

  /**
   * Where a lane begins: at the journal's end, or a little before. What was written while the connection was being
   * made is as fresh as what follows.
   */
  #freshStart(): number {
    const durable = this.#source.durable();
    const earliest = Math.max(durable - maxRecentLines, this.#read, this.#islands.at(-1)?.to ?? 0);
    const sinceMs = Date.now() - recentMs;
    for (let at = this.#source.recentAfter(earliest); at; at = this.#source.recentAfter(at.last)) {
      // A lane begins with a whole batch.
      if (at.first > earliest && at.header.sealed >= sinceMs) return at.first - 1;
    }
    return durable;
  }

  /** Steps over an island, and returns how far may be read from here. */
  #edge(): number {
    for (const { from, to } of this.#islands) {
      if (from > this.#read + 1) return from - 1;
      this.#read = Math.max(this.#read, to);
    }
    return this.#fresh?.start ?? Number.POSITIVE_INFINITY;
  }

  #confirm(position: number): void {
    const saved = this.savedPosition;
    // What is gone behind the last line that was handed out nobody confirms.
    this.#acked = position >= this.#handed ? Math.max(position, this.#read) : position;
    for (const { from, to } of this.#islands) {
      if (from <= this.#acked + 1) this.#acked = Math.max(this.#acked, to);
    }
    this.#islands = this.#islands.filter(({ to }) => to > this.#acked);
    this.#read = Math.max(this.#read, this.#acked);
    this.#sent = Math.max(this.#sent, this.#acked);
    const lane = this.#fresh;
    if (lane && this.#read >= lane.start && this.#acked >= this.#handed) lane.join();
    this.#record(saved, this.#reader.losses.confirm(this.#acked));
    // By lines, not by positions: a new journal id without lines is no reason to wait.
    if (this.#lines(this.#acked, this.#source.durable()) <= 0) this.settle();
    this.#source.acked();
  }

  #record(saved: number, losses: readonly Loss[]): void {
    this.#recordedTo = saved;
    for (const loss of losses) {
      this.#source.lost(loss);
      this.#recordedTo = linePosition(loss.epoch, loss.last);
    }
    this.#recordedTo = undefined;
  }

  /** Read on without a line to hand out: with nothing under way, nobody else moves the cursor. */
  #passGaps(): void {
    if (this.#acked >= this.#handed && this.#read > this.#acked) this.#confirm(this.#read);
  }

  /** The backlog has been read up to the lane: nothing more until the lane has ended. */
  async #waitForLane(lane: JournalFreshLane, signal: AbortSignal | undefined): Promise<void> {
    if (!lane.joined.aborted) this.#confirm(this.#acked);
    const ends = [this.#source.closed, ...(signal ? [signal] : [])];
    using end = withDeadline(ends, Number.POSITIVE_INFINITY);
    await orAborted(this.#freshClosed.promise, end.signal);
  }

  #closeLane(lane: JournalFreshLane): void {
    this.#fresh = undefined;
    const { start, ackedPosition } = lane;
    if (ackedPosition > start) {
      this.#reader.losses.adopt(lane.losses, ackedPosition);
      this.#islands.push({ from: start + 1, to: ackedPosition });
      if (this.#islands.length > maxIslands) this.#reader.losses.forget(this.#islands.shift());
      this.#confirm(this.#acked);
    }
    this.#freshClosed.resolve();
  }

  /** Lines in `(after, through]`, over a change of journal id by what its segments hold. */
  #lines(after: number, through: number): number {
    const last = splitPosition(through);
    const first = splitPosition(after);
    if (last.epoch === first.epoch) return last.seq - first.seq;
    let lines = last.seq;
    for (const segment of this.#source.segments()) {
      if (segment.epoch === last.epoch || segment.last <= after) continue;
      lines += segment.last - Math.max(segment.first - 1, after);
    }
    return lines;
  }

  /** Confirmed lines behind a position that is not within an island. */
  #inIslands(after: number): number {
    let lines = 0;
    for (const { from, to } of this.#islands) if (to > after) lines += to - Math.max(from - 1, after);
    return lines;
  }
}
