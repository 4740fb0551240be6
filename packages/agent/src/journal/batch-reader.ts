import { type LevelCounts, limits } from '@millrace/wire';
import type { JournalDisk } from './disk.ts';
import { type Loss, PassedLosses } from './passed-losses.ts';
import { linePosition, type Segment, splitPosition } from './segment.ts';
import { SegmentReader } from './segment-reader.ts';
import { StoredBatch } from './stored-batch.ts';

/** What a reader sees of its journal. Positions are line positions. */
export interface BatchSource {
  oldest(): number;
  durable(): number;
  recentAfter(position: number): StoredBatch | undefined;
  segments(): readonly Segment[];
  readonly disk: JournalDisk | undefined;
  /** The first batch behind `position` that memory has, for when no segment has any. */
  onlyInMemoryAfter(position: number): StoredBatch | undefined;
  /** The batch with its lines' true times, as far as they are known by now. */
  corrected(batch: StoredBatch): StoredBatch;
  /** How long at most a batch should wait for the clock to be set; mostly 0. */
  holdMs(batch: StoredBatch): number;
  /** Lines by level of what was dropped whole between two positions, both included, where it is known. */
  droppedLevels(first: number, last: number): LevelCounts | undefined;
  /** Puts a loss on record. */
  lost(loss: Loss): void;
}

/** What a cursor sees besides. */
export interface CursorSource extends BatchSource {
  newest(): number;
  positionOf(journal: string, seq: number): number | undefined;
  /** Resolves when more has become durable, the journal closes, or the signal aborts. */
  wait(signal: AbortSignal | undefined): Promise<void>;
  readonly closed: AbortSignal;
  acked(): void;
}

/** One step forward. Without a batch when everything up to `position` is gone. */
export interface Step {
  batch: StoredBatch | undefined;
  /** Position of the last line passed. */
  position: number;
  /** Set when the next batch must wait this long for the clock to be set, unless it is set before. */
  holdMs?: number;
}

// A batch at least this large is handed out alone, as it lies.
const mergeBelowBytes = 32 * 1024;

/** Reads durable batches forward, out of memory or off the disk, and notes what should be there and is not. */
export class BatchReader {
  readonly #source: BatchSource;
  readonly #segments: SegmentReader | undefined;
  readonly losses = new PassedLosses();
  /** When, by a monotonic clock, a batch had to wait for the clock to be set for the first time. */
  #heldSinceMs: number | undefined;

  constructor(source: BatchSource) {
    this.#source = source;
    if (source.disk) this.#segments = new SegmentReader(source.disk, () => source.segments());
  }

  /**
   * The lines behind `position` and up to `through`, small batches merged. `undefined` while there is nothing durable.
   */
  step(position: number, through = Number.POSITIVE_INFINITY): Step | undefined {
    const first = this.#after(position);
    if (!first) return undefined;
    const holdMs = first.first > through ? 0 : this.#holdMs(first);
    if (holdMs > 0) return { batch: undefined, position, holdMs };
    if (first.first > position + 1) this.#noteGap(position, Math.min(first.first, through + 1));
    if (first.first > through) return { batch: undefined, position: through };
    const batch = this.#merged(this.#source.corrected(first).part(position, through), through);
    for (const gap of batch.gaps()) this.losses.pass({ ...gap, cause: 'shed' });
    return { batch: batch.header.count > 0 ? batch : undefined, position: batch.last };
  }

  /** The rest of the time that a batch must wait. Once it has passed, no batch waits any more. */
  #holdMs(batch: StoredBatch): number {
    const holdMs = this.#source.holdMs(batch);
    if (holdMs === 0) return 0;
    this.#heldSinceMs ??= performance.now();
    return Math.max(0, this.#heldSinceMs + holdMs - performance.now());
  }

  /** Records lines that the far end refuses for good. */
  giveUp(from: number, through: number): void {
    const first = splitPosition(from);
    const last = splitPosition(through);
    if (first.epoch !== last.epoch || last.seq < first.seq) return;
    const count = last.seq - first.seq + 1;
    this.losses.lines += count;
    const { epoch } = first;
    this.#source.lost({ count, first: first.seq, last: last.seq, epoch, cause: 'refused' });
  }

  #after(position: number): StoredBatch | undefined {
    if (position >= this.#source.durable()) return undefined;
    const recent = this.#source.recentAfter(position);
    if (recent) {
      // At the journal's end nothing is read from disk for a long time: let its buffer go.
      this.#segments?.reset();
      return recent;
    }
    return this.#segments?.after(position) ?? this.#source.onlyInMemoryAfter(position);
  }

  /** Lines that should lie between `position` and `edge`, and do not, are lost. */
  #noteGap(position: number, edge: number): void {
    const { epoch } = splitPosition(edge);
    let from = position + 1;
    // How far the journal ids in between went is known as long as a segment of theirs is there, be it empty.
    for (const segment of this.#source.segments()) {
      if (segment.epoch >= epoch) break;
      this.#passGap(Math.max(from, linePosition(segment.epoch, 1)), segment.last);
      from = Math.max(from, segment.last + 1);
    }
    this.#passGap(Math.max(from, linePosition(epoch, 1)), edge - 1);
  }

  #passGap(first: number, last: number): void {
    if (first > last) return;
    const levels = this.#source.droppedLevels(first, last);
    // What was dropped lay in front of all that is kept, or of all that is kept of its journal id.
    const isDropped = levels || last < this.#source.oldest() || splitPosition(first).seq === 1;
    this.losses.pass({ first, last, ...(levels && { levels }), cause: isDropped ? 'dropped' : 'damaged' });
  }

  /** A small batch is joined by the small ones that follow it, as far as they are there already. */
  #merged(first: StoredBatch, through: number): StoredBatch {
    if (first.linesBytes >= mergeBelowBytes) return first;
    const group = [first];
    let bytes = first.encodedBytes;
    let count = first.header.count;
    for (;;) {
      const tail = group.at(-1) as StoredBatch;
      if (tail.last >= through) break;
      const next = this.#after(tail.last);
      if (!next || next.epoch !== first.epoch || next.first !== tail.last + 1) break;
      if (this.#holdMs(next) > 0) break;
      const corrected = this.#source.corrected(next).part(tail.last, through);
      bytes += corrected.encodedBytes;
      count += next.header.count;
      if (bytes > limits.maxBatchBytes - limits.maxHeaderLineBytes || count > limits.maxBatchLines) break;
      group.push(corrected);
    }
    return StoredBatch.merge(group);
  }
}
